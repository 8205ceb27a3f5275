"""splitadmin --repair where the Admin database is not yet, or not any more, the only place of its rows."""

import io

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from keyhub import placement
from keyhub.placement import State
from keyhub.splitadmin import procedure
from keyhub.splitadmin.record import REVERSIBLE
from orgs.models import Organization
from tests.splitadmin.test_repair import UNSUBSCRIBED

pytestmark = [pytest.mark.database, pytest.mark.once]


def test_from_one_database_to_the_way_back(two_databases, digests):
    with pytest.raises(CommandError) as caught:
        call_command("splitadmin", "--repair")
    assert (str(caught.value), caught.value.returncode) == (
        "there is nothing to repair: organizations live in the tenant database, and no move is under way.", 1,
    )  # fmt: skip
    two_databases.split(finish=False)
    with two_databases.connect("default") as tenant:
        for statement in UNSUBSCRIBED:
            tenant.execute(statement)
    with pytest.raises(
        CommandError, match=r"does not follow the Admin database any more\. manage\.py splitadmin --repair"
    ):
        call_command("splitadmin")
    Organization.objects.create(id="ORG-MEANWHILE", name="Meanwhile", slug="meanwhile")
    out = io.StringIO()
    call_command("splitadmin", "--repair", stdout=out)
    assert out.getvalue().splitlines() == [
        "Organizations live in the Admin database, and a move is under way (reversible).",
        "The last step, when all is well: manage.py splitadmin --finish. Or: --rollback.",
    ]
    assert placement.read_state(connections["default"]) == State("admin", REVERSIBLE)
    procedure.rollback(lambda line: None)
    assert Organization.objects.using("default").filter(pk="ORG-MEANWHILE").exists()
    assert digests(two_databases, "admin")["organizations"][0] == 0
