"""What the start page counts of tenants."""

from django.utils.translation import gettext_lazy as _

from keyhub.admin import Number, count_of, page_of_list, register
from tenancy.admin.join_codes import expiring
from tenancy.models import Tenant, TenantJoinCode, TenantMembership

register(
    Number("tenants", _("Tenants"), "tenancy.view_tenant", lambda: count_of(Tenant.objects.all()),
           lambda: page_of_list(Tenant)),
    Number("members", _("Active members"), "tenancy.view_tenantmembership",
           lambda: count_of(TenantMembership.objects.active()),
           lambda: page_of_list(TenantMembership, left_at__isempty=1)),
    Number("expiring", _("Codes that expire soon"), "tenancy.view_tenantjoincode",
           lambda: count_of(expiring(TenantJoinCode.objects.all())),
           lambda: page_of_list(TenantJoinCode, state="expiring"), hint=_("active, within 7 days")),
    Number("exhausted", _("Codes used up"), "tenancy.view_tenantjoincode",
           lambda: count_of(TenantJoinCode.objects.in_state(TenantJoinCode.State.EXHAUSTED)),
           lambda: page_of_list(TenantJoinCode, state="exhausted")),
)  # fmt: skip
