from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/second-factor/", include("accounts.urls")),
    path("admin/", admin.site.urls),
]
