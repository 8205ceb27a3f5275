"""Tenants, their people, codes and groups as operators see and change them."""

import re
import threading
import time
from datetime import timedelta

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tenancy.models import (
    DEEPEST_GROUP,
    DEFAULT_ORGANIZATION_ID,
    Group,
    GroupMembership,
    Tenant,
    TenantJoinCode,
    TenantMembership,
)
from tests.factories import (
    GroupFactory,
    GroupMembershipFactory,
    OperatorFactory,
    OrganizationFactory,
    SessionFactory,
    TenantFactory,
    TenantJoinCodeFactory,
    TenantMembershipFactory,
    UserFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.once]

DEFAULT_TENANT = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
TENANT = {"organization_id": DEFAULT_ORGANIZATION_ID, "name": "Lab", "slug": "lab", "tenant_type": "laboratory"}


@pytest.fixture
def admin(client):
    client.force_login(OperatorFactory(is_superuser=True))
    return client


def url(page: str, *arguments) -> str:
    return reverse(f"admin:tenancy_{page}", args=arguments)


def inline(prefix: str, *rows: dict, existing: int = 0) -> dict:
    """What a browser sends for the rows of an inline."""
    data = {f"{prefix}-TOTAL_FORMS": len(rows), f"{prefix}-INITIAL_FORMS": existing}
    for number, row in enumerate(rows):
        data.update({f"{prefix}-{number}-{name}": value for name, value in row.items()})
    return data


NO_MEMBERS = inline("memberships")


def errors(response) -> dict:
    return response.context["adminform"].form.errors


def names(response) -> list[str]:
    return [str(row) for row in response.context["cl"].result_list]


def cells(response, column: str) -> list[str]:
    """The texts of a column of a list."""
    found = re.findall(rf'<t[dh] class="[^"]*\bfield-{column}\b[^>]*>(.*?)</t[dh]>', response.text, re.DOTALL)
    return [re.sub("<.*?>", "", cell).strip() for cell in found]


def messages(response) -> list[str]:
    return [str(message) for message in response.context["messages"]]


# Adding and changing a tenant


def test_a_tenant_is_added_with_members_at_once(admin):
    alice, bob = UserFactory(email="alice@example.com"), UserFactory(email="bob@example.com")
    response = admin.post(
        url("tenant_add"),
        {
            **TENANT,
            "description": "",
            **inline("memberships", {"user": alice.pk, "role": "admin"}, {"user": bob.pk, "role": "member"}),
        },
    )
    assert response.url == url("tenant_changelist")
    tenant = Tenant.objects.get(slug="lab")
    assert (tenant.tenant_type, tenant.is_default, tenant.description) == ("laboratory", False, None)
    assert set(tenant.memberships.values_list("user__email", "role")) == {
        ("alice@example.com", "admin"),
        ("bob@example.com", "member"),
    }


def test_the_form_of_a_new_tenant_starts_with_the_defaults_of_the_database(admin):
    response = admin.get(url("tenant_add"))
    form = response.context["adminform"].form
    assert {name: form[name].value() for name in form.fields} == {
        "organization_id": DEFAULT_ORGANIZATION_ID,
        "name": None,
        "slug": None,
        "description": None,
        "tenant_type": "team",
        "is_default": False,
    }
    (members,) = (formset.formset.empty_form for formset in response.context["inline_admin_formsets"])
    assert {name: members[name].value() for name in ("user", "role")} == {"user": None, "role": "member"}
    assert members.fields["role"].choices == [("admin", "Admin"), ("member", "Member"), ("viewer", "Viewer")]
    assert "DatabaseDefault" not in response.text


def test_short_texts_have_one_line(admin):
    response = admin.get(url("tenant_add"))
    form = response.context["adminform"].form
    one_line = [form.fields["organization_id"], form.fields["name"], form.fields["slug"]]
    assert [getattr(field.widget, "input_type", "textarea") for field in one_line] == ["text"] * 3
    assert getattr(form.fields["description"].widget, "input_type", "textarea") == "textarea"


def test_a_tenant_is_changed_with_its_members(admin):
    tenant = TenantFactory()
    alice = TenantMembershipFactory(tenant=tenant, user__email="alice@example.com")
    bob = TenantMembershipFactory(tenant=tenant, user__email="bob@example.com")
    charlie = UserFactory(email="charlie@example.com")
    first, second = sorted([alice, bob], key=lambda membership: membership.pk)
    rows = {
        alice: {"id": alice.pk, "user": charlie.pk, "role": "admin"},
        bob: {"id": bob.pk, "role": "member", "DELETE": "on"},
    }
    response = admin.post(
        url("tenant_change", tenant.pk),
        {
            **TENANT,
            **inline("memberships", rows[first], rows[second], {"user": charlie.pk, "role": "viewer"}, existing=2),
        },
    )
    assert response.url == url("tenant_changelist")
    tenant.refresh_from_db()
    assert (tenant.name, tenant.slug) == ("Lab", "lab")
    # The row of alice stays hers, whatever was sent.
    assert set(tenant.memberships.values_list("user__email", "role")) == {
        ("alice@example.com", "admin"),
        ("charlie@example.com", "viewer"),
    }


def test_a_full_inline_is_saved_and_a_larger_one_gives_way_to_a_link(admin):
    tenant = TenantFactory()
    TenantMembershipFactory.create_batch(50, tenant=tenant)
    page = url("tenant_change", tenant.pk)
    response = admin.get(page)
    data = {**TENANT, "name": "Renamed"}
    for admin_formset in response.context["inline_admin_formsets"]:
        forms = admin_formset.formset.forms
        rows = [{name: form[name].value() for name in form.fields if form[name].value() is not None} for form in forms]
        data |= inline(admin_formset.formset.prefix, *rows, existing=50)
    sent = set(re.findall(r'name="(memberships-\d+-\w+)"', response.text))
    assert 250 < len(sent) < settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
    TenantMembershipFactory(tenant=tenant)  # while the form was open
    assert admin.post(page, {**data, "memberships-0-role": "admin"}).url == url("tenant_changelist")
    tenant.refresh_from_db()
    assert (tenant.name, tenant.memberships.filter(role="admin").count()) == ("Renamed", 1)

    response = admin.get(page)
    assert response.context["inline_admin_formsets"] == []
    assert "Members" in [title for title, _table in response.context["sections"]]
    link = f"{url('tenantmembership_changelist')}?tenant__id__exact={tenant.pk}"
    assert messages(response)[-1] == (
        f'There are more than 50 tenant memberships here: <a href="{link}">they have a list of their own</a>.'
    )
    response = admin.get(link)
    assert len(response.context["cl"].result_list) == 50
    response = admin.get(url("tenantmembership_changelist") + response.context["cl"].next_page)
    assert len(response.context["cl"].result_list) == 1
    assert admin.post(page, {**TENANT}).url == url("tenant_changelist")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"slug": "default"}, {"__all__": ["The organization already has a tenant with this slug."]}),
        ({"is_default": "on"}, {"__all__": ["The organization already has a default tenant."]}),
        ({"organization_id": "ORG-NONE"}, {"organization_id": ["There is no organization with this id."]}),
        (
            {"tenant_type": "gang"},
            {"tenant_type": ["Select a valid choice. gang is not one of the available choices."]},
        ),
        ({"name": "a\0b"}, {"name": ["Null characters are not allowed."]}),
        ({"slug": ""}, {"slug": ["This field is required."]}),
    ],
)
@pytest.mark.parametrize("page", ["add", "change"])
def test_what_the_database_would_refuse_is_an_error_of_the_form(admin, page, change, expected):
    address = url("tenant_add") if page == "add" else url("tenant_change", TenantFactory().pk)
    response = admin.post(address, {**TENANT, **change, **NO_MEMBERS})
    assert errors(response) == expected


def test_a_second_default_tenant_is_fine_in_another_organization(admin):
    organization = OrganizationFactory()
    data = {**TENANT, "organization_id": organization.pk, "is_default": "on"}
    assert admin.post(url("tenant_add"), {**data, **NO_MEMBERS}).status_code == 302
    assert Tenant.objects.filter(is_default=True).count() == 2


def test_doubles_in_an_inline_are_errors_of_the_form(admin):
    alice = UserFactory()
    response = admin.post(
        url("tenant_add"),
        {
            **TENANT,
            **inline("memberships", {"user": alice.pk, "role": "admin"}, {"user": alice.pk, "role": "viewer"}),
        },
    )
    (members,) = (admin_formset.formset for admin_formset in response.context["inline_admin_formsets"])
    assert members.non_form_errors() == ["Please correct the duplicate data for user."]
    assert not Tenant.objects.filter(slug="lab").exists()


def test_a_member_twice_is_an_error_of_the_form(admin):
    membership = TenantMembershipFactory(left_at=timezone.now())
    again = {"user": membership.user_id, "role": "member"}
    sentence = "The user already has a membership here, perhaps one that was left."
    response = admin.post(url("tenantmembership_add"), {"tenant": membership.tenant_id, **again})
    assert errors(response) == {"__all__": [sentence]}
    row = {"id": membership.pk, "role": "member"}
    response = admin.post(
        url("tenant_change", membership.tenant_id),
        {**TENANT, **inline("memberships", row, again, existing=1)},
    )
    members = response.context["inline_admin_formsets"][0].formset
    assert (members.errors, members.non_form_errors()) == (
        [{}, {"__all__": ["Please correct the duplicate values below."]}],
        ["Please correct the duplicate data for user."],
    )


def test_losing_a_race_is_a_message_not_a_crash(admin, server):
    """The other client's row is not yet visible when the form is checked, and is there when it is saved."""
    database = connection.settings_dict["NAME"]
    with (
        psycopg.connect(host=str(server.socket_directory), dbname=database, user="keyhub") as other,
        psycopg.connect(host=str(server.socket_directory), dbname=database, user="keyhub", autocommit=True) as watch,
    ):
        other.execute("INSERT INTO tenants (name, slug) VALUES ('First', 'lab')")

        admin_pid = connection.connection.info.backend_pid  # sessions of the other worker wait for locks, too

        def commit_when_the_admin_waits() -> None:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if watch.execute("SELECT FROM pg_locks WHERE NOT granted AND pid = %s", [admin_pid]).rowcount:
                    break
            other.commit()

        thread = threading.Thread(target=commit_when_the_admin_waits)
        thread.start()
        try:
            response = admin.post(url("tenant_add"), {**TENANT, **NO_MEMBERS}, follow=True)
        finally:
            thread.join()
            watch.execute("DELETE FROM tenants WHERE slug = 'lab'")
    assert response.redirect_chain == [(url("tenant_add"), 302)]
    assert messages(response) == [
        "Nothing was changed: The organization already has a tenant with this slug. "
        "Somebody may have changed the same data a moment ago."
    ]


def test_a_malformed_id_is_an_error_of_the_form(admin):
    page = url("tenantjoincode_add")
    assert admin.get(page, {"tenant": "17"}).status_code == 200
    response = admin.post(page, {"tenant": "17", "code": "KH-LAB", "role": "viewer", "max_uses": "1"})
    assert errors(response) == {"tenant": ["“17” is not a valid UUID."]}


# The list of tenants


def test_the_list_counts_active_members_and_codes(admin):
    tenant = TenantFactory(organization_id=OrganizationFactory().pk)
    TenantMembershipFactory.create_batch(3, tenant=tenant)
    TenantMembershipFactory(tenant=tenant, left_at=timezone.now())
    TenantJoinCodeFactory.create_batch(2, tenant=tenant)
    response = admin.get(url("tenant_changelist"), {"organization_id": tenant.organization_id})
    (row,) = response.context["cl"].result_list
    assert (row.active_members, row.codes) == (3, 2)
    members = f"{url('tenantmembership_changelist')}?tenant__id__exact={tenant.pk}&amp;left_at__isempty=1"
    codes = f"{url('tenantjoincode_changelist')}?tenant__id__exact={tenant.pk}"
    assert f'<a href="{members}">3</a>' in response.text
    assert f'<a href="{codes}">2</a>' in response.text
    assert len(admin.get(members.replace("&amp;", "&")).context["cl"].result_list) == 3
    assert len(admin.get(codes).context["cl"].result_list) == 2


@pytest.mark.parametrize("term", ["robot", "LAB-7", "ORG-ROBOTS", "{id}"])
def test_a_tenant_is_found_by_name_slug_organization_and_id(admin, term):
    OrganizationFactory(id="ORG-ROBOTS")
    tenant = TenantFactory(name="Robots", slug="lab-7", organization_id="ORG-ROBOTS")
    TenantFactory(name="Other")
    assert names(admin.get(url("tenant_changelist"), {"q": term.format(id=tenant.pk)})) == ["Robots"]


def test_tenants_are_filtered_by_organization_and_type(admin):
    organization = OrganizationFactory(id="ORG-ROBOTS", name="Robots Inc.")
    TenantFactory(name="Arms", slug="arms", organization_id=organization.pk)
    TenantFactory(name="Legs", slug="legs", organization_id=organization.pk, tenant_type="project")
    response = admin.get(url("tenant_changelist"), {"organization_id": "ORG-ROBOTS"})
    assert names(response) == ["Arms", "Legs"]
    organizations, types, _ = response.context["cl"].filter_specs
    assert [choice["display"] for choice in organizations.choices(response.context["cl"])] == [
        "All",
        "Default Organization",
        "Robots Inc.",
    ]
    assert types.title == "tenant type"
    response = admin.get(url("tenant_changelist"), {"organization_id": "ORG-ROBOTS", "tenant_type__exact": "project"})
    assert names(response) == ["Legs"]


def test_the_filter_lists_no_more_than_a_hundred_organizations(admin):
    OrganizationFactory.create_batch(100)
    response = admin.get(url("tenant_changelist"))
    organizations = response.context["cl"].filter_specs[0]
    assert (len(organizations.lookup_choices), organizations.title) == (100, "organization (the first 100 by name)")


# Members, codes


def test_a_membership_is_added_left_and_rejoined(admin):
    user = UserFactory(email="bob@example.com")
    data = {"role": "viewer", "left_at_0": "", "left_at_1": ""}
    admin.post(url("tenantmembership_add"), {"tenant": DEFAULT_TENANT, "user": user.pk, **data})
    membership = TenantMembership.objects.get(user=user)
    page = url("tenantmembership_change", membership.pk)
    admin.post(page, {**data, "left_at_0": "2026-01-02", "left_at_1": "03:04:05"})
    membership.refresh_from_db()
    assert membership.left_at.isoformat() == "2026-01-02T03:04:05+00:00"
    admin.post(page, data)
    membership.refresh_from_db()
    assert (membership.left_at, membership.role) == (None, "viewer")


def test_codes_show_their_state_and_uses(admin):
    now = timezone.now()
    TenantJoinCode.objects.all().delete()
    codes = [
        {"code": "A", "max_uses": 100, "used_count": 3, "expires_at": now + timedelta(hours=1)},
        {"code": "B", "max_uses": 0, "used_count": 3},
        {"code": "C", "max_uses": 3, "used_count": 3},
        {"code": "D", "expires_at": now - timedelta(seconds=1)},
    ]
    for age, columns in enumerate(codes):
        TenantJoinCodeFactory(created_at=now - timedelta(minutes=1 + age), **columns)
    response = admin.get(url("tenantjoincode_changelist"))
    columns = [cells(response, name) for name in ("state", "uses")]
    assert columns == [
        ["Active", "Active", "Exhausted", "Expired"],
        ["3 of 100", "3, no limit", "3 of 3", "0, no limit"],
    ]
    tenant = TenantJoinCode.objects.get(code="A").tenant
    assert f'<a href="{url("tenant_change", tenant.pk)}">{tenant.name}</a>' in response.text


@pytest.mark.parametrize(("state", "found"), [("active", ["A"]), ("exhausted", ["C"]), ("expired", ["D"])])
def test_codes_are_filtered_by_state(admin, state, found):
    TenantJoinCode.objects.all().delete()
    TenantJoinCodeFactory(code="A")
    TenantJoinCodeFactory(code="C", max_uses=1, used_count=1)
    TenantJoinCodeFactory(code="D", expires_at=timezone.now())
    assert names(admin.get(url("tenantjoincode_changelist"), {"state": state})) == found


def test_the_uses_of_a_code_are_counted_by_the_database_alone(admin):
    code = TenantJoinCodeFactory(max_uses=5, used_count=3)
    page = url("tenantjoincode_change", code.pk)
    response = admin.get(page)
    form = response.context["adminform"].form
    assert list(form.fields) == ["code", "role", "max_uses", "expires_at", "created_by"]
    readonly = re.findall(r'<div class="readonly[^>]*>(.*?)</div>', response.text)
    assert {"3 of 5", "Active"} <= set(readonly)
    data = {"code": code.code, "role": "member", "max_uses": "3", "used_count": "0"}
    assert admin.post(page, data).url == url("tenantjoincode_changelist")
    code.refresh_from_db()
    assert (code.max_uses, code.used_count) == (3, 3)
    response = admin.post(page, {**data, "max_uses": "2"})
    assert errors(response) == {"__all__": ["The code has been used more often than this limit allows."]}


def test_a_code_is_added_and_is_nobody_elses(admin):
    response = admin.get(url("tenantjoincode_add"))
    form = response.context["adminform"].form
    assert {name: form[name].value() for name in form.fields} == {
        "tenant": None,
        "code": None,
        "role": "member",
        "max_uses": 1,
        "expires_at": form["expires_at"].value(),
        "created_by": None,
    }
    assert timedelta(days=6, hours=23) < form["expires_at"].value() - timezone.now() <= timedelta(days=7)
    assert "DatabaseDefault" not in response.text
    data = {"tenant": DEFAULT_TENANT, "code": "KH-LAB", "role": "viewer", "max_uses": "1"}
    assert admin.post(url("tenantjoincode_add"), data).url == url("tenantjoincode_changelist")
    assert errors(admin.post(url("tenantjoincode_add"), data)) == {
        "__all__": ["There is a code already that reads the same."]
    }


def test_a_code_that_nobody_has_chosen_is_random(admin):
    for _ in range(2):
        data = {"tenant": DEFAULT_TENANT, "code": "", "role": "member", "max_uses": "1"}
        assert admin.post(url("tenantjoincode_add"), data).url == url("tenantjoincode_changelist")
    first, second = TenantJoinCode.objects.order_by("-created_at")[:2]
    assert re.fullmatch(r"KH(-[0-9A-HJKMNP-TV-Z]{5}){3}", first.code)
    assert first.code != second.code
    page = url("tenantjoincode_change", first.pk)
    assert errors(admin.post(page, {"code": "", "role": "member", "max_uses": "1"})) == {
        "code": ["This field is required."]
    }


# Groups


def test_a_group_is_added_below_another_with_its_people(admin):
    parent, bob = GroupFactory(), UserFactory()
    TenantMembershipFactory(tenant=parent.tenant, user=bob)
    data = {"name": "Child", "description": "", **inline("memberships", {"user": bob.pk, "role": "admin"})}
    response = admin.post(url("group_add"), {"tenant": parent.tenant_id, "parent_group": parent.pk, **data})
    assert response.url == url("group_changelist")
    child = Group.objects.get(name="Child")
    assert (child.parent_group, child.depth, child.memberships.get().user) == (parent, 1, bob)


def test_the_parent_of_a_group_is_of_its_tenant_and_not_below_it(admin):
    top = GroupFactory()
    middle = GroupFactory(tenant=top.tenant, parent_group=top)
    below = GroupFactory(tenant=top.tenant, parent_group=middle)
    foreign = GroupFactory()

    def move(group, parent):
        data = {"name": "Moved", "parent_group": parent.pk, **NO_MEMBERS}
        return errors(admin.post(url("group_change", group.pk), data))

    refusals = {
        foreign: "The parent is a group of another tenant.",
        top: "A group cannot be below itself.",
        below: "A group cannot be below itself.",
    }
    for parent, sentence in refusals.items():
        assert move(top, parent) == {"parent_group": [sentence]}
    response = admin.post(
        url("group_add"), {"tenant": foreign.tenant_id, "name": "New", "parent_group": top.pk, **NO_MEMBERS}
    )
    assert errors(response) == {"parent_group": ["The parent is a group of another tenant."]}


def test_groups_nested_too_deeply_are_refused(admin):
    groups = [GroupFactory(name="0")]
    for level in range(DEEPEST_GROUP):
        groups.append(GroupFactory(name=str(level + 1), tenant=groups[0].tenant, parent_group=groups[-1]))
    response = admin.post(
        url("group_add"),
        {"tenant": groups[0].tenant_id, "name": "New", "parent_group": groups[-1].pk, **NO_MEMBERS},
    )
    assert errors(response) == {"parent_group": ["Groups are nested too deeply."]}
    # What is below a moved group the form does not weigh; the database does.
    branch = GroupFactory(tenant=groups[0].tenant)
    GroupFactory(tenant=groups[0].tenant, parent_group=branch)
    page = url("group_change", branch.pk)
    response = admin.post(page, {"name": "Branch", "parent_group": groups[-2].pk, **NO_MEMBERS}, follow=True)
    assert response.redirect_chain == [(page, 302)]
    assert messages(response) == [
        "Nothing was changed: Groups are nested too deeply. Somebody may have changed the same data a moment ago."
    ]


def test_a_user_is_in_a_group_once(admin):
    membership = GroupMembershipFactory()
    data = {"group": membership.group_id, "user": membership.user_id, "role": "admin"}
    assert errors(admin.post(url("groupmembership_add"), data)) == {"__all__": ["The user is already in this group."]}


# Deleting


def delete_page(response) -> tuple[dict, list]:
    return dict(response.context["model_count"]), response.context["protected"]


def test_deleting_a_tenant_says_what_goes_with_it(admin):
    tenant, other = TenantFactory(name="Lab"), TenantFactory()
    memberships = TenantMembershipFactory.create_batch(3, tenant=tenant)
    SessionFactory(user=memberships[0].user, active_membership=memberships[0])
    TenantJoinCodeFactory.create_batch(2, tenant=tenant)
    group = GroupFactory(tenant=tenant)
    child = GroupFactory(tenant=tenant, parent_group=group)
    GroupMembershipFactory(group=group)
    GroupMembershipFactory.create_batch(2, group=child)
    GroupMembershipFactory(group__tenant=other)
    page = url("tenant_delete", tenant.pk)

    response = admin.get(page)
    assert delete_page(response) == (
        {
            "tenants": "1",
            "tenant memberships": "6",
            "tenant join codes": "2",
            "groups": "2",
            "group memberships": "3",
        },
        [],
    )
    assert response.context["deleted_objects"] == [
        f'Tenant: <a href="{url("tenant_change", tenant.pk)}">Lab</a>',
        "Sessions that stay, with “active membership” emptied: 1",
    ]

    with CaptureQueriesContext(connection) as captured:
        assert admin.post(page, {"post": "yes"}).url == url("tenant_changelist")
    deletes = [query["sql"] for query in captured.captured_queries if query["sql"].startswith("DELETE")]
    assert [sql.split(" WHERE ")[0] for sql in deletes] == ['DELETE FROM "tenants"']
    assert not Tenant.objects.filter(pk=tenant.pk).exists()
    assert GroupMembership.objects.count() == 1


def test_the_delete_page_counts_no_further_than_a_thousand(admin):
    tenant = TenantFactory()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, 1500) AS n")
        cursor.execute("INSERT INTO tenant_memberships (tenant_id, user_id) SELECT %s, id FROM users", [tenant.pk])
        cursor.execute(
            "INSERT INTO sessions (session_id, user_id, active_membership_id, expires_at) "
            "SELECT encode(sha256(uuid_send(id)), 'hex'), user_id, id, '2100-01-01' FROM tenant_memberships LIMIT 900"
        )
    with CaptureQueriesContext(connection) as captured:
        response = admin.get(url("tenant_delete", tenant.pk))
    assert delete_page(response)[0] == {"tenants": "1", "tenant memberships": "at least 1,000"}
    # Of these the page knows only what refers to the thousand.
    (sessions,) = response.context["deleted_objects"][1:]
    assert re.fullmatch(r"Sessions that stay, with “active membership” emptied: at least \d{3}", sessions)
    reads = [query["sql"] for query in captured.captured_queries if "parent.ctid" in query["sql"]]
    assert len(reads) == 6  # memberships, codes, groups; sessions, redemptions, group memberships
    assert all(" LIMIT " in sql for sql in reads)


def test_deleting_a_group_counts_the_groups_below_it(admin):
    top = GroupFactory(name="Top")
    middle = GroupFactory(tenant=top.tenant, parent_group=top)
    below = GroupFactory(tenant=top.tenant, parent_group=middle)
    GroupMembershipFactory(group=below)
    GroupFactory(tenant=top.tenant)
    response = admin.get(url("group_delete", top.pk))
    assert delete_page(response) == ({"groups": "3", "group memberships": "1"}, [])
    admin.post(url("group_delete", top.pk), {"post": "yes"})
    assert Group.objects.count() == 1


@pytest.mark.parametrize("row_factory", [TenantFactory, TenantJoinCodeFactory, GroupFactory])
def test_selected_rows_are_deleted(admin, row_factory):
    rows = row_factory.create_batch(3)
    model = row_factory._meta.model
    selected = {"action": "delete_selected", "_selected_action": [row.pk for row in rows[:2]]}
    page = url(f"{model._meta.model_name}_changelist")
    response = admin.post(page, selected)
    assert dict(response.context["model_count"])[model._meta.verbose_name_plural] == "2"
    response = admin.post(page, {**selected, "post": "yes"}, follow=True)
    assert messages(response)[0].startswith("Successfully deleted 2 ")
    assert list(model.objects.filter(pk__in=[row.pk for row in rows])) == [rows[2]]


@pytest.mark.parametrize("malformed", ["17", "\0"])
def test_a_malformed_id_selects_nothing(admin, malformed):
    page = url("tenant_changelist")
    data = {"action": "delete_selected", "_selected_action": [DEFAULT_TENANT, malformed], "post": "yes"}
    response = admin.post(page, data, follow=True)
    assert response.redirect_chain == [(page, 302)]
    assert messages(response) == ["Nothing was changed: a selected id is malformed."]
    assert Tenant.objects.filter(pk=DEFAULT_TENANT).exists()


def test_rows_that_nobody_has_seen_are_not_selected(admin):
    page = f"{url('tenant_changelist')}?q=lab"
    data = {"action": "delete_selected", "_selected_action": [DEFAULT_TENANT], "select_across": "1", "post": "yes"}
    TenantFactory(name="Lab")
    response = admin.post(page, data, follow=True)
    assert response.redirect_chain == [(page, 302)]
    assert messages(response) == [
        "Nothing was changed: only rows that are seen can be selected. Select them page by page."
    ]
    assert names(admin.get(page)) == ["Lab"]


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("alpha", ["KH-A", "KH-B"]),
        ("KH-B", ["KH-B"]),
        ("h-", ["KH-A", "KH-B", "KH-C"]),
        ("h-a laboratory", ["KH-A"]),
        ("alpha beta", []),
        ('"alpha laboratory"', ["KH-A", "KH-B"]),
        ('"laboratory alpha"', []),
        ("100%", ["KH-C"]),
        ('"', []),
        ("'", []),
    ],
)
def test_a_part_of_a_code_or_of_its_tenants_name_is_found(admin, term, expected):
    alpha, beta = TenantFactory(name="Alpha Laboratory"), TenantFactory(name="Beta 100% Laboratory")
    for code, tenant in (("KH-A", alpha), ("KH-B", alpha), ("KH-C", beta)):
        TenantJoinCodeFactory(tenant=tenant, code=code)
    response = admin.get(url("tenantjoincode_changelist"), {"q": term})
    assert sorted(code.code for code in response.context["cl"].result_list if code.tenant in (alpha, beta)) == expected
