"""Links between the pages of the admin."""

from datetime import datetime
from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.db import models
from django.urls import reverse
from django.utils.html import format_html


def page_of_row(row: models.Model) -> str:
    """The address of a row's page."""
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[quote(row.pk)])


def page_of_list(model: type[models.Model], **lookups: object) -> str:
    """The address of a model's list, narrowed down by the parameters of its filters."""
    page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{page}?{urlencode(lookups)}" if lookups else page


def link_to(row: models.Model) -> str:
    return link_to_page(row, row)


def link_to_page(row: models.Model, text: object) -> str:
    """A link to a row's page; a time is told to the second, in UTC."""
    if isinstance(text, datetime):
        text = f"{text:%Y-%m-%d %H:%M:%S}"
    return format_html('<a href="{}">{}</a>', page_of_row(row), text)


def link_to_list(text: object, model: type[models.Model], **lookups: object) -> str:
    return format_html('<a href="{}">{}</a>', page_of_list(model, **lookups), text)
