from django.conf import settings
from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError
from django.db import ProgrammingError
from psycopg.errors import UndefinedTable

from accounts import firstoperator


class Command(BaseCommand):
    help = "In development, make an operator of the admin with a random password, where there is none."
    requires_system_checks = [Tags.compatibility, Tags.models]

    def handle(self, **options):
        if not settings.DEBUG:
            raise CommandError("firstoperator is for development, and DEBUG is off. Use manage.py createsuperuser.")
        try:
            password = firstoperator.create()
        except ProgrammingError as error:
            if isinstance(error.__cause__, UndefinedTable):
                raise CommandError("The table operators does not exist. Run manage.py migrate first.") from error
            raise
        if password is None:
            self.stdout.write("There is an operator already. A lost password: manage.py changepassword <e-mail>")
        else:
            self.stdout.write(f"The first operator: {firstoperator.EMAIL}, password {password}")
