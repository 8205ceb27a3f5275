from django.contrib import admin
from django.urls import include, path

from keyhub.admin import start_page

urlpatterns = [
    path("admin/health/", admin.site.admin_view(start_page.health), name="health"),
    path("admin/second-factor/", include("accounts.urls")),
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
]
