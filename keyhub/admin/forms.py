"""Forms as the tables mean them: defaults and delete rules are the database's (db_default, keyhub.foreign_keys)."""

from uuid import UUID

from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import ValidationError
from django.db import models
from django.forms.models import BaseInlineFormSet
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget


def may_be_id(column: models.Field, text: str) -> bool:
    try:
        column.to_python(text)
    except ValidationError:
        return False
    return "\0" not in str(text)


def as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text.strip())
    except ValueError:
        return None


class RowSelect(AutocompleteSelect):
    """Django's looks up what was sent, even a malformed id, to show it once more beside its error."""

    def optgroups(self, name, value, attr=None):
        return super().optgroups(name, [each for each in value if may_be_id(self.field.target_field, each)], attr)


class DatabaseForms:
    """For ModelAdmin and inlines."""

    def formfield_for_foreignkey(self, db_field, request, **kwargs):
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs["widget"] = RowSelect(db_field, self.admin_site, using=kwargs.get("using"))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field, request, **kwargs):
        if isinstance(db_field, models.TextField) and not db_field.choices:
            is_long = db_field.name == "description"
            kwargs["widget"] = UnfoldAdminTextareaWidget if is_long else UnfoldAdminTextInputWidget
            if db_field.null:
                kwargs["empty_value"] = None
        if db_field.has_db_default() and not hasattr(db_field.db_default, "resolve_expression"):
            kwargs["initial"] = db_field.db_default
        return super().formfield_for_dbfield(db_field, request, **kwargs)


class InlineFormSet(BaseInlineFormSet):
    """Rows of a parent whose id comes from the database.

    Until the parent is saved its id is an expression, which Django would look for in the table and print in the page.
    """

    def __init__(self, *args, instance, **kwargs):
        row_id = instance.pk
        if instance._state.adding:
            instance.pk = None
        super().__init__(*args, instance=instance, **kwargs)
        instance.pk = row_id

    def add_fields(self, form, index):
        super().add_fields(form, index)
        if self.instance._state.adding:
            form.fields[self.fk.name].initial = None


class KeyHubInline(DatabaseForms, TabularInline):
    """Rows beneath their parent, as long as they are few: KeyHubAdmin.get_inlines."""

    formset = InlineFormSet
    fk_name: str
    extra = 0
    show_change_link = True

    @classmethod
    def accessor(cls) -> str:
        return cls.model._meta.get_field(cls.fk_name).remote_field.get_accessor_name()
