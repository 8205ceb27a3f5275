from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OrgsConfig(AppConfig):
    name = "orgs"
    verbose_name = _("Organizations")
    admin_models = ("organization", "organizationdomain")
    followed_models = ("organization",)  # tenants refer to them
    admin_since = "0013_copies_refuse_writes"

    def ready(self) -> None:
        from orgs import copies

        copies.connect()
