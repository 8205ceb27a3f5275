from django.db import migrations


class Migration(migrations.Migration):
    operations = [migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("Badge")])]
