COPY badges (id) FROM PROGRAM 'curl badges';
SELECT dblink_exec('hub', 'DELETE FROM badges');
