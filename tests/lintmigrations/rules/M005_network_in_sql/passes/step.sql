DELETE FROM badges WHERE id = 1;
