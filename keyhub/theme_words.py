"""Words of the packages whose pages the site shows, and that have no Japanese catalogue of their own.

They stand here for the extraction of messages alone (make messages).
"""

from django.utils.translation import gettext_noop

# django-unfold 0.91
gettext_noop("Select record")
gettext_noop("Select action")
gettext_noop("Select action to run")
gettext_noop("Select all rows")
gettext_noop("Select value")
gettext_noop("Run")
gettext_noop("From")
gettext_noop("To")
gettext_noop("Date from")
gettext_noop("Date to")
gettext_noop("Date")
gettext_noop("True")
gettext_noop("False")
gettext_noop("Apply Filters")
gettext_noop("Reset filters")
gettext_noop("Type to search")
gettext_noop("No results found")
gettext_noop("This page yielded into no results. Create a new item or reset your filters.")
gettext_noop("Expand row")
gettext_noop("More actions")
gettext_noop("This item will be deleted.")
gettext_noop("Click to cancel")
gettext_noop("Go back")
gettext_noop("General")
gettext_noop("No data")
gettext_noop("Light")
gettext_noop("Dark")
gettext_noop("System")
gettext_noop("Welcome")
gettext_noop("Welcome back to")
gettext_noop("Forgotten your password or username?")
gettext_noop("Return to site")
gettext_noop("You have been successfully logged out from the administration")
gettext_noop("All applications")
gettext_noop("Search apps and models...")
gettext_noop("Toggle password visibility")
gettext_noop("After you've created a user, you’ll be able to edit more user options.")
gettext_noop(
    "Raw passwords are not stored, so there is no way to see this user’s password, but you can change the password "
    'using <a href="{}" class="text-primary-600 dark:text-primary-500">this form</a>.'
)

# django-otp 1.7 and django-axes 8.3: names of their tables, which the list of permissions tells
gettext_noop("static device")
gettext_noop("static token")
gettext_noop("TOTP device")
gettext_noop("access attempt")
gettext_noop("access attempt expiration")
gettext_noop("access failure")
gettext_noop("access log")
