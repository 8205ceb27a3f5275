from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    operations = [ValidateConstraint("badge", "check_label")]
