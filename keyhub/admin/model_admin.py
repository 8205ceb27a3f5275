"""The model admins of all apps."""

from functools import partial, reduce
from operator import or_

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.utils import quote, unquote
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, IntegrityError, models, router, transaction
from django.db.models import Q
from django.http import Http404, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.text import capfirst, smart_split, unescape_string_literal
from django.utils.translation import gettext as _
from django.utils.translation import override
from psycopg.errors import Diagnostic
from unfold.admin import ModelAdmin

from keyhub import placement
from keyhub.admin import journal
from keyhub.admin.deletion import CASCADE, EMPTYING, fates_of_dependents
from keyhub.admin.forms import DatabaseForms, KeyHubInline, as_uuid, may_be_id
from keyhub.admin.journal import NO_ORGANIZATION, Place
from keyhub.admin.links import link_to, link_to_list, page_of_list, page_of_row
from keyhub.admin.operations import Operation, offered
from keyhub.admin.pages import LIST_TIMEOUT_MS, FirstRows, KeysetPage, Order, PagedChangeList, page_of
from keyhub.admin.refusals import in_words, is_registered
from keyhub.admin.sections import sections_of
from keyhub.statements import is_moved

MOST_ROWS_OF_AN_INLINE = 50
MOST_ROWS_NAMED = 20
CONFIRMED = "confirmed"


class JournaledAdmin(ModelAdmin):
    """Tells the audit log of each row that is added, changed or deleted here, also beneath its parent."""

    def tenant_of(self, row: models.Model) -> models.Model | None:
        return getattr(row, "tenant", None)

    def place_of(self, row: models.Model) -> Place:
        tenant = self.tenant_of(row)
        organization_id = getattr(row, "organization_id", None) or getattr(tenant, "organization_id", NO_ORGANIZATION)
        return Place(organization_id, tenant)

    def record(self, request, verb: str, row: models.Model, details: dict | None = None) -> None:
        journal.record(request, verb, row, self.place_of(row), details)

    def save_model(self, request, obj, form, change):
        super().save_model(request, obj, form, change)
        if not change:
            self.record(request, "add", obj)
        elif form.changed_data:
            self.record(request, "change", obj, journal.changes_of(form))

    def save_formset(self, request, form, formset, change):
        rows_admin = self.admin_site.get_model_admin(formset.model)
        for deleted in formset.deleted_forms:
            if not deleted.instance._state.adding:
                rows_admin.record(request, "delete", deleted.instance)
        super().save_formset(request, form, formset, change)
        for row in formset.new_objects:
            rows_admin.record(request, "add", row)
        forms = {each.instance.pk: each for each in formset.initial_forms}
        for row, _names in formset.changed_objects:
            rows_admin.record(request, "change", row, journal.changes_of(forms[row.pk]))

    # The names of rows in Django's own log do not depend on the language of who has changed them either.

    def log_addition(self, request, obj, message):
        with override(None):
            return super().log_addition(request, obj, message)

    def log_change(self, request, obj, message):
        with override(None):
            return super().log_change(request, obj, message)

    def log_deletions(self, request, queryset):
        with override(None):
            return super().log_deletions(request, queryset)

    def delete_model(self, request, obj):
        self.record(request, "delete", obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request, queryset):
        for row in queryset.order_by("pk"):
            self.record(request, "delete", row)
        super().delete_queryset(request, queryset)


class KeyHubAdmin(DatabaseForms, JournaledAdmin):
    settled_fields = ()  # given when a row is made, and not changed afterwards
    ordering: tuple[str, ...]  # unique and not NULL, all ascending or all descending: pages.py
    sortable_by = ()
    paginator = FirstRows  # of the boxes in which a row is looked up; a list has get_page()
    list_per_page = 50
    list_disable_select_all = True
    searches_parts = True  # of the texts of search_fields, where nothing is found exactly
    show_facets = admin.ShowFacets.NEVER
    change_list_template = "keyhub/change_list.html"
    change_form_outer_before_template = "keyhub/operations.html"
    change_form_outer_after_template = "keyhub/sections.html"

    def get_fields(self, request, obj=None):
        return self.fields if obj else [name for name in self.fields if name not in self.readonly_fields]

    def get_readonly_fields(self, request, obj=None):
        return (*self.readonly_fields, *self.settled_fields) if obj else ()

    # Lists

    def get_changelist(self, request, **kwargs):
        return PagedChangeList

    def get_page(self, queryset: models.QuerySet, after: str | None, before: str | None) -> KeysetPage:
        return page_of(queryset, Order(self.model, self.ordering), self.list_per_page, after=after, before=before)

    def exactly(self, term: str) -> Q | None:
        """The rows that a term is the very name of, each condition by an index; None where no name can be such."""
        return None

    def get_search_results(self, request, queryset, search_term):
        """Rows that are named exactly so or have this id; where there are none, those of which it is a part."""
        term = search_term.strip()
        if not term:
            return queryset, False
        exact = self.exactly(term)
        named = queryset.none() if exact is None else queryset.filter(exact)
        if isinstance(self.opts.pk, models.UUIDField) and (row_id := as_uuid(term)):
            row = queryset.filter(pk=row_id)
            # Outside names may look like ids: OpenID Connect's `sub` of a user is often a UUID.
            return (row if exact is None or row.exists() else named), False
        if not self.searches_parts or named.exists():
            return named, False
        for word in smart_split(term):
            contains = (
                self._contains(column, unescape_string_literal(word) if is_quoted(word) else word)
                for column in self.search_fields
            )
            queryset = queryset.filter(reduce(or_, contains, Q()))
        return queryset, False

    def _contains(self, column: str, word: str) -> Q:
        """Of a column of another table that the row refers to, too: Django's join would join all rows with all of it
        before it looks for the word.
        """
        relation, _separator, name = column.rpartition("__")
        contains = Q(**{f"{name}__icontains": word})
        if not relation:
            return contains
        return Q(**{f"{relation}__in": self.opts.get_field(relation).related_model.objects.filter(contains)})

    def changelist_view(self, request, extra_context=None):
        if request.method == "POST":
            return self._or_refusal(request, self._changed_list, extra_context)
        response = super().changelist_view(request, extra_context)
        listed = getattr(response, "context_data", {}).get("cl")
        if listed and listed.was_given_up:
            text = _(
                "This took longer than %(seconds)d seconds and was given up: search for a whole name or an id, or use "
                "fewer filters."
            )
            self.message_user(request, text % {"seconds": LIST_TIMEOUT_MS // 1000}, messages.ERROR)
        return response

    def _changed_list(self, request, extra_context):
        using = router.db_for_write(self.model)
        with transaction.atomic(using=using), journal.evidence_of(using):
            return super().changelist_view(request, extra_context)

    # Inlines that have become too long for a form (DATA_UPLOAD_MAX_NUMBER_FIELDS) give way to a list.

    def get_inlines(self, request, obj):
        return [inline for inline in self.inlines if obj is None or self._is_editable_here(inline, request, obj)]

    def _is_editable_here(self, inline: type[KeyHubInline], request, obj) -> bool:
        if request.method == "POST":
            return f"{inline.accessor()}-TOTAL_FORMS" in request.POST
        rows = getattr(obj, inline.accessor()).order_by()
        return len(rows.values_list("pk")[: MOST_ROWS_OF_AN_INLINE + 1]) <= MOST_ROWS_OF_AN_INLINE

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        if obj:
            context |= {"operations": self._operations_on(request, obj), "sections": sections_of(request, obj)}
        if request.method == "GET" and obj:
            few = self.get_inlines(request, obj)
            for inline in (inline for inline in self.inlines if inline not in few):
                rows = inline.model._meta.verbose_name_plural
                link = link_to_list(
                    _("they have a list of their own"), inline.model, **{f"{inline.fk_name}__id__exact": obj.pk}
                )
                text = _("There are more than {number} {rows} here: {link}.")
                messages.info(request, format_html(text, number=MOST_ROWS_OF_AN_INLINE, rows=rows, link=link))
        return super().render_change_form(request, context, add, change, form_url, obj)

    # Operations

    def get_urls(self):
        name = f"{self.opts.app_label}_{self.opts.model_name}_operation"
        view = self.admin_site.admin_view(self.operation_view)
        return [path("<path:object_id>/operation/<slug:verb>/", view, name=name), *super().get_urls()]

    def get_actions(self, request):
        if IS_POPUP_VAR in request.GET:
            return {}
        many = [each for each in offered(self.model) if each.is_for_many and each.is_permitted(request, self)]
        named = {each.verb: (partial(self._operation_on_many, each), each.verb, each.label) for each in many}
        return super().get_actions(request) | named

    def _operations_on(self, request, row: models.Model) -> list[tuple[Operation, str]]:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_operation"
        return [
            (operation, reverse(name, args=[quote(row.pk), operation.verb]))
            for operation in offered(self.model)
            if operation.is_permitted(request, self) and operation.applies(row)
        ]

    def operation_view(self, request, object_id: str, verb: str):
        operation = next((each for each in offered(self.model) if each.verb == verb), None)
        if operation is None:
            raise Http404
        if not operation.is_permitted(request, self):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        back = page_of_list(self.model) if operation.takes_the_row_away else page_of_row(row)
        return self._or_refusal(request, self._confirm_or_operate, operation, [row], back)

    @staticmethod
    def _operation_on_many(operation: Operation, model_admin: "KeyHubAdmin", request, queryset):
        return model_admin._confirm_or_operate(
            request, operation, list(queryset.order_by("pk")), request.get_full_path()
        )

    def _confirm_or_operate(self, request, operation: Operation, rows: list[models.Model], back: str):
        is_confirmed = request.method == "POST" and CONFIRMED in request.POST
        options = operation.options(request.POST if is_confirmed else None)
        if is_confirmed and options.is_valid():
            self._operate(request, operation, rows, options.cleaned_data)
            return HttpResponseRedirect(back)
        context = self.admin_site.each_context(request) | {
            "title": operation.label,
            "opts": self.opts,
            "operation": operation,
            "options": options,
            "rows": rows[:MOST_ROWS_NAMED],
            "other_rows": len(rows) - len(rows[:MOST_ROWS_NAMED]),
            "selected": [row.pk for row in rows] if ACTION_CHECKBOX_NAME in request.POST else [],
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "back": back,
            "media": self.media,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "keyhub/confirm.html", context)

    def _operate(self, request, operation: Operation, rows: list[models.Model], options: dict) -> None:
        done = []
        try:
            using = router.db_for_write(self.model)
            with transaction.atomic(using=using), journal.evidence_of(using):
                for row in rows:
                    details = operation.run(row, options)
                    if details is not None:
                        self.record(request, operation.verb, row, details)
                        done.append(details)
        except operation.refusals as error:
            self.message_user(request, _("Nothing was changed: %(why)s") % {"why": in_words(error)}, messages.ERROR)
            return
        text = operation.done % {"done": len(done), "selected": len(rows)}
        if done and (more := operation.summary(done)):
            text = f"{text} {more}"
        self.message_user(request, text, messages.SUCCESS if done else messages.WARNING)

    # What the database refuses although the form has passed: somebody else was faster, or only the database can tell.

    def response_action(self, request, queryset):
        if not all(may_be_id(self.opts.pk, each) for each in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            reason = _("a selected id is malformed.")
        elif request.POST.get("select_across") == "1":
            reason = _("only rows that are seen can be selected. Select them page by page.")
        else:
            return super().response_action(request, queryset)
        self.message_user(request, _("Nothing was changed: %(why)s") % {"why": reason}, messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())

    def changeform_view(self, request, *args, **kwargs):
        return self._or_refusal(request, super().changeform_view, *args, **kwargs)

    def delete_view(self, request, *args, **kwargs):
        return self._or_refusal(request, super().delete_view, *args, **kwargs)

    # Called by Django in the transaction of the change.

    def _changeform_view(self, request, *args, **kwargs):
        with journal.evidence_of(router.db_for_write(self.model)):
            return super()._changeform_view(request, *args, **kwargs)

    def _delete_view(self, request, *args, **kwargs):
        with journal.evidence_of(router.db_for_write(self.model)):
            return super()._delete_view(request, *args, **kwargs)

    def _or_refusal(self, request, view, *args, **kwargs):
        try:
            return view(request, *args, **kwargs)
        except IntegrityError as error:
            diagnostics = error.__cause__.diag
            if not diagnostics.constraint_name:
                raise
            text = _("Nothing was changed: %(why)s Somebody may have changed the same data a moment ago.")
            self.message_user(request, text % {"why": violation_of(diagnostics)}, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        except DatabaseError as error:
            if not is_moved(error):
                raise
            placement.forget()
            text = _("Nothing was changed: these rows have just moved to another database. Do it again.")
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
                text = _("%(rows)s that stay, with “%(column)s” emptied: %(number)s")
                lines.append(text % {"rows": capfirst(name), "column": _names_of(model, emptied), "number": rows})
            else:
                text = _(
                    "%(rows)s: %(number)s. Delete or move them first: the database deletes nothing that is still "
                    "referred to."
                )
                refusals.append(text % {"rows": capfirst(name), "number": rows})
        itself = capfirst(self.opts.verbose_name)
        return [format_html("{}: {}", itself, link_to(obj)) for obj in objs] + lines, counts, forbidden, refusals


class ReadOnlyAdmin(KeyHubAdmin):
    """Rows that the services write and operators only look at."""

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False

    def lookup_allowed(self, lookup, value, request=None):
        """Only what the filters offer: ?session_id__startswith=a would betray a secret letter by letter."""
        named = {each.parameter_name for each in self.list_filter if isinstance(each, type)}
        ranges = {f"{each[0]}_{end}" for each in self.list_filter if isinstance(each, tuple) for end in ("from", "to")}
        column, _separator, condition = lookup.partition("__")
        return lookup in named | ranges or (
            column in self.list_filter and condition in ("", "exact", "gte", "lt", "isnull")
        )


def is_quoted(word: str) -> bool:
    return len(word) > 1 and word[0] in "\"'" and word[0] == word[-1]


def _names_of(model: type[models.Model] | None, columns: str) -> str:
    names = {field.column: str(field.verbose_name) for field in model._meta.concrete_fields} if model else {}
    return ", ".join(names.get(column, column) for column in columns.split(", "))


def violation_of(diagnostics: Diagnostic) -> str:
    """The kind words for a constraint: its model's, or those of the trigger that keeps it."""
    for model in apps.get_models():
        for constraint in model._meta.constraints:
            if constraint.name == diagnostics.constraint_name:
                return constraint.get_violation_error_message()
    if diagnostics.message_hint:
        return in_words(f"{diagnostics.message_primary}. {diagnostics.message_hint}")
    if is_registered(diagnostics.message_primary):
        return in_words(diagnostics.message_primary)
    return _("Constraint “%(name)s” is violated.") % {"name": diagnostics.constraint_name}
