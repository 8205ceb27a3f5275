from django.urls import path

from accounts import second_factor_pages as pages

app_name = "second_factor"
urlpatterns = [
    path("", pages.StatusPage.as_view(), name="status"),
    path("verify/", pages.VerifyPage.as_view(), name="verify"),
    path("enrol/", pages.EnrolPage.as_view(), name="enrol"),
    path("recovery-codes/", pages.RenewCodesPage.as_view(), name="renew_codes"),
    path("remove/", pages.RemovePage.as_view(), name="remove"),
]
