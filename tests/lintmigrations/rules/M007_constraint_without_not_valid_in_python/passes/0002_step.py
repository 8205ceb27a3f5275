from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [
        AddConstraintNotValid("badge", models.CheckConstraint(condition=~models.Q(label=""), name="check_label"))
    ]
