"""What the admins of several apps share.

Tables may be large: lists count no further than BoundedPaginator.bound. Defaults and delete rules are the database's
(db_default, keyhub.foreign_keys), so forms and delete pages take both from there.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from urllib.parse import urlencode
from uuid import UUID

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote
from django.contrib.admin.widgets import AutocompleteSelect
from django.contrib.auth import get_permission_codename
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import IntegrityError, connections, models, router, transaction
from django.forms.models import BaseInlineFormSet
from django.http import HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.text import capfirst
from psycopg.errors import Diagnostic
from unfold.admin import ModelAdmin, TabularInline
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

MOST_ROWS_OF_AN_INLINE = 50
MOST_DEPENDENTS_COUNTED = 1000
MOST_ORGANIZATIONS_LISTED = 100


def link_to(obj: models.Model) -> str:
    page = f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change"
    return format_html('<a href="{}">{}</a>', reverse(page, args=[quote(obj.pk)]), obj)


def link_to_list(text: object, model: type[models.Model], **lookups) -> str:
    page = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
    return format_html('<a href="{}?{}">{}</a>', reverse(page), urlencode(lookups), text)


# Organizations, to which tables of other apps refer by a text column


def validate_organization_id(organization_id: str) -> None:
    if not apps.get_model("orgs", "Organization").objects.filter(pk=organization_id).exists():
        raise ValidationError("There is no organization with this id.")


class OrganizationFilter(admin.SimpleListFilter):
    """Lists organizations from their own table: the values of a large one are never collected."""

    title = "organization"
    parameter_name = "organization_id"

    def lookups(self, request, model_admin) -> list[tuple[str, str]]:
        organizations = apps.get_model("orgs", "Organization").objects.order_by("name").values_list("id", "name")
        first = list(organizations[: MOST_ORGANIZATIONS_LISTED + 1])
        if len(first) > MOST_ORGANIZATIONS_LISTED:
            self.title = f"organization (the first {MOST_ORGANIZATIONS_LISTED} by name)"
        return first[:MOST_ORGANIZATIONS_LISTED]

    def queryset(self, request, queryset):
        return queryset.filter(organization_id=self.value()) if self.value() else queryset


# Forms


class RowSelect(AutocompleteSelect):
    """Django's looks up what was sent, even a malformed id, to show it once more beside its error."""

    def optgroups(self, name, value, attr=None):
        return super().optgroups(name, [each for each in value if may_be_id(self.field.target_field, each)], attr)


class DatabaseForms:
    """Forms as the tables mean them, for ModelAdmin and inlines."""

    def formfield_for_foreignkey(self, db_field, request, **kwargs):
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs["widget"] = RowSelect(db_field, self.admin_site, using=kwargs.get("using"))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field, request, **kwargs):
        if isinstance(db_field, models.TextField) and not db_field.choices:
            kwargs["widget"] = (
                UnfoldAdminTextareaWidget if db_field.name == "description" else UnfoldAdminTextInputWidget
            )
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


# Lists


class BoundedPaginator(Paginator):
    bound = 10_000

    @cached_property
    def count(self) -> int:
        return min(self._counted, self.bound)

    @property
    def more_exist(self) -> bool:
        return self._counted > self.bound

    @cached_property
    def _counted(self) -> int:
        return self.object_list.order_by()[: self.bound + 1].count()


class KeyHubAdmin(DatabaseForms, ModelAdmin):
    settled_fields = ()  # given when a row is made, and not changed afterwards
    paginator = BoundedPaginator
    show_full_result_count = False  # it would count the table
    show_facets = admin.ShowFacets.NEVER  # so would these

    def get_fields(self, request, obj=None):
        return self.fields if obj else [name for name in self.fields if name not in self.readonly_fields]

    def get_readonly_fields(self, request, obj=None):
        return (*self.readonly_fields, *self.settled_fields) if obj else ()

    def get_search_results(self, request, queryset, search_term):
        """Find a row by its id, too."""
        if isinstance(self.opts.pk, models.UUIDField) and (row_id := as_uuid(search_term)):
            return queryset.filter(pk=row_id), False
        return super().get_search_results(request, queryset, search_term)

    # Inlines that have become too long for a form (DATA_UPLOAD_MAX_NUMBER_FIELDS) give way to a list.

    def get_inlines(self, request, obj):
        return [inline for inline in self.inlines if obj is None or self._is_editable_here(inline, request, obj)]

    def _is_editable_here(self, inline: type[KeyHubInline], request, obj) -> bool:
        if request.method == "POST":
            return f"{inline.accessor()}-TOTAL_FORMS" in request.POST
        rows = getattr(obj, inline.accessor()).order_by()
        return rows[: MOST_ROWS_OF_AN_INLINE + 1].count() <= MOST_ROWS_OF_AN_INLINE

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        if request.method == "GET" and obj:
            few = self.get_inlines(request, obj)
            for inline in (inline for inline in self.inlines if inline not in few):
                rows = inline.model._meta.verbose_name_plural
                link = link_to_list(
                    "they have a list of their own", inline.model, **{f"{inline.fk_name}__id__exact": obj.pk}
                )
                text = "There are more than {} {} here: {}."
                messages.info(request, format_html(text, MOST_ROWS_OF_AN_INLINE, rows, link))
        return super().render_change_form(request, context, add, change, form_url, obj)

    # What the database refuses although the form has passed: somebody else was faster, or only the database can tell.

    def changelist_view(self, request, extra_context=None):
        if request.method == "POST":
            write = transaction.atomic(using=router.db_for_write(self.model))(super().changelist_view)
            return self._or_refusal(request, write, extra_context)
        response = super().changelist_view(request, extra_context)
        listed = getattr(response, "context_data", {}).get("cl")
        if listed and listed.paginator.more_exist:
            bound = f"{listed.paginator.bound:,}"
            response.context_data["subtitle"] = (
                f"There are more than {bound}. Only the first {bound} are listed: narrow them down by search or filter."
            )
        return response

    def response_action(self, request, queryset):
        bound = self.paginator.bound
        if not all(may_be_id(self.opts.pk, each) for each in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            reason = "a selected id is malformed."
        elif request.POST.get("select_across") == "1" and self.get_paginator(request, queryset, 1).more_exist:
            reason = (
                f"there are more than {bound:,}, of which only the first {bound:,} are listed. "
                "Narrow them down by search or filter."
            )
        else:
            return super().response_action(request, queryset)
        self.message_user(request, f"Nothing was changed: {reason}", messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())

    def changeform_view(self, request, *args, **kwargs):
        return self._or_refusal(request, super().changeform_view, *args, **kwargs)

    def delete_view(self, request, *args, **kwargs):
        return self._or_refusal(request, super().delete_view, *args, **kwargs)

    def _or_refusal(self, request, view, *args, **kwargs):
        try:
            return view(request, *args, **kwargs)
        except IntegrityError as error:
            diagnostics = error.__cause__.diag
            if not diagnostics.constraint_name:
                raise
            words = violation_of(diagnostics)
            text = f"Nothing was changed: {words} Somebody may have changed the same data a moment ago."
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    # Deleting

    def get_deleted_objects(self, objs, request):
        """What PostgreSQL deletes along, empties or refuses: Django knows of none of it (keyhub.foreign_keys)."""
        fates = fates_of_dependents(self.model, [obj.pk for obj in objs])
        registered = {model._meta.db_table: model for model in apps.get_models(include_auto_created=True)}
        counts, forbidden, lines, refusals = {}, set(), [], []
        for (table, action, emptied), rows in fates.items():
            model = registered.get(table)
            name = model._meta.verbose_name_plural if model else table
            if action == CASCADE:
                counts[name] = str(rows)
                if model and not request.user.has_perm(
                    f"{model._meta.app_label}.{get_permission_codename('delete', model._meta)}"
                ):
                    forbidden.add(model._meta.verbose_name)
            elif action in EMPTYING:
                lines.append(f"{capfirst(name)} that stay, with {emptied} emptied: {rows}")
            else:
                refusals.append(
                    f"{capfirst(name)}: {rows}. Delete or move them first: "
                    "the database deletes nothing that is still referred to."
                )
        itself = capfirst(self.opts.verbose_name)
        return [format_html("{}: {}", itself, link_to(obj)) for obj in objs] + lines, counts, forbidden, refusals


class FixedOrderChangeList(ChangeList):
    def get_ordering(self, request, queryset):
        return self.model_admin.get_ordering(request)


class ReadOnlyAdmin(KeyHubAdmin):
    """Rows that the services write and operators only look at, in tables that are too large to be sorted at will."""

    sortable_by = ()

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False

    def get_changelist(self, request, **kwargs):
        return FixedOrderChangeList  # sortable_by alone still admits ?o=3

    def lookup_allowed(self, lookup, value, request=None):
        """Only what the filters offer: ?session_id__startswith=a would betray a secret letter by letter."""
        column, _, condition = lookup.partition("__")
        offered = {each if isinstance(each, str) else each.parameter_name for each in self.list_filter}
        return column in offered and condition in ("", "exact", "gte", "lt", "isnull")


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


def violation_of(diagnostics: Diagnostic) -> str:
    """The kind words for a constraint: its model's, or those of the trigger that keeps it."""
    for model in apps.get_models():
        for constraint in model._meta.constraints:
            if constraint.name == diagnostics.constraint_name:
                return constraint.get_violation_error_message()
    if diagnostics.message_hint:
        return f"{diagnostics.message_primary}. {diagnostics.message_hint}"
    return f"Constraint “{diagnostics.constraint_name}” is violated."


# What happens to the rows that refer to others when those are deleted. Actions are those of pg_constraint.confdeltype.

CASCADE = "c"
EMPTYING = ("n", "d")

KEYS_TO = """
    SELECT conrelid::regclass::text, relname, confdeltype::text, join_condition, emptied
    FROM pg_constraint
    JOIN pg_class ON pg_class.oid = conrelid
    CROSS JOIN LATERAL (
        SELECT string_agg(format('child.%%I = parent.%%I', child.attname, parent.attname), ' AND '),
               string_agg(child.attname, ', ') FILTER (WHERE child.attnum = ANY (coalesce(confdelsetcols, conkey)))
        FROM unnest(conkey, confkey) AS pair (child_number, parent_number)
        JOIN pg_attribute AS child ON child.attrelid = conrelid AND child.attnum = child_number
        JOIN pg_attribute AS parent ON parent.attrelid = confrelid AND parent.attnum = parent_number
    ) AS columns (join_condition, emptied)
    WHERE contype = 'f' AND confrelid = %s::regclass AND conparentid = 0
    ORDER BY conname
"""


@dataclass
class Rows:
    """Rows of a table by ctid, the place where each lies: every table has it, and it holds while a page is made."""

    places: set[str] = field(default_factory=set)
    there_may_be_more: bool = False

    def __str__(self) -> str:
        return f"{'at least ' if self.there_may_be_more else ''}{len(self.places):,}"


def fates_of_dependents(model: type[models.Model], pks: list) -> dict[tuple[str, str, str], Rows]:
    """Follow the keys of the catalogue from some rows of a model: (table, action, emptied columns) -> rows.

    The rows themselves come first. Each key is followed by one query per level, which reads no more than
    MOST_DEPENDENTS_COUNTED rows.
    """
    connection = connections[router.db_for_write(model)]
    quote_name = connection.ops.quote_name
    table = model._meta.db_table
    found: defaultdict[tuple[str, str, str], Rows] = defaultdict(Rows)
    with connection.cursor() as cursor:

        def places(statement: str, *params) -> set[str]:
            cursor.execute(statement, params)
            return {place for (place,) in cursor.fetchall()}

        itself = f"SELECT ctid::text FROM {quote_name(table)} WHERE {quote_name(model._meta.pk.column)} = ANY (%s)"  # noqa: S608
        chosen = places(itself, pks)
        found[table, CASCADE, ""].places |= chosen
        # (table as SQL writes it, rows that go, there may be more of them)
        going = [(quote_name(table), chosen, False)]
        for parent, parents, there_may_be_more in going:
            cursor.execute(KEYS_TO, [parent])
            for child, name, action, join_condition, emptied in cursor.fetchall():
                rows = found[name, action, "" if action == CASCADE else emptied]
                room = max(0, MOST_DEPENDENTS_COUNTED - len(rows.places))
                new = places(
                    f"SELECT child.ctid::text FROM {child} AS child JOIN {parent} AS parent ON {join_condition} "  # noqa: S608
                    "WHERE parent.ctid = ANY (%s::tid[]) AND NOT child.ctid = ANY (%s::tid[]) LIMIT %s",
                    list(parents),
                    list(rows.places),
                    room,
                )
                rows.places |= new
                rows.there_may_be_more |= there_may_be_more or len(new) == room
                if action == CASCADE and new:
                    going.append((child, new, rows.there_may_be_more))
    for (name, action, _), rows in found.items():
        if action != CASCADE and (name, CASCADE, "") in found:
            rows.places -= found[name, CASCADE, ""].places
    return {fate: rows for fate, rows in found.items() if rows.places}
