from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [
        migrations.AddConstraint("badge", models.CheckConstraint(condition=~models.Q(label=""), name="check_label"))
    ]
