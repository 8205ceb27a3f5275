"""The Japanese catalogue has every word of the site, and its compiled form is that of its text."""

import gettext
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.apps import apps
from django.utils.translation import override

from keyhub import theme_words
from tests.site.catalogue import PO, Entry, entries, words_of_python, words_of_template, words_of_the_site

pytestmark = pytest.mark.once

APPS = ("accounts", "audit", "auth_sessions", "orgs", "tenancy")
IN_JAPANESE = re.compile("[\u3041-\u309f\u30a1-\u30ff\u4e00-\u9fff]")
# Words that Japanese takes as they are.
AS_THEY_ARE = {"id", "nonce", "%(action)s on %(resource)s"}
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w*\}|<[^>]+>")
MEND = "Run make messages, translate, and run it again (CONTRIBUTING.md)."


@pytest.fixture(scope="module")
def catalogue() -> list[Entry]:
    return entries(PO.read_text(encoding="utf-8"))


def test_the_catalogue_has_the_words_of_the_site_and_no_others(catalogue):
    found, translated = words_of_the_site(), {entry.msgid for entry in catalogue}
    assert {word: path for word, path in found.items() if word not in translated} == {}, MEND
    assert translated - set(found) == set(), MEND
    assert len(found) > 400


def test_each_word_is_translated_once(catalogue):
    assert [entry for entry in catalogue if not entry.msgstr or "fuzzy" in entry.flags] == []
    assert [
        entry for entry in catalogue if not IN_JAPANESE.search(entry.msgstr) and entry.msgid not in AS_THEY_ARE
    ] == []
    assert len({entry.msgid for entry in catalogue}) == len(catalogue)
    assert [entry.msgid for entry in catalogue] == sorted(entry.msgid for entry in catalogue)


def test_placeholders_and_markup_are_those_of_the_english(catalogue):
    assert [
        (entry.msgid, entry.msgstr)
        for entry in catalogue
        if sorted(PLACEHOLDER.findall(entry.msgid)) != sorted(PLACEHOLDER.findall(entry.msgstr))
    ] == []


def test_sentences_end_as_sentences_and_labels_do_not(catalogue):
    """です・ます with 。 for what ends in a full stop, except where only a placeholder stands before it."""
    assert [
        (entry.msgid, entry.msgstr)
        for entry in catalogue
        if entry.msgid.endswith(".") != entry.msgstr.endswith("。") and not entry.msgid.endswith("...")
    ] == []


def test_the_compiled_catalogue_is_that_of_the_text(catalogue):
    with PO.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    known = {key: value for key, value in compiled._catalog.items() if key}
    assert known == {(entry.msgid, 0) if entry.plural else entry.msgid: entry.msgstr for entry in catalogue}, MEND


def test_the_words_of_the_theme_are_still_its_words():
    """Of a newer version, other words may have to be taken over."""
    packages = "".join(
        path.read_text(encoding="utf-8")
        for package in ("unfold", "axes", "django_otp.plugins.otp_totp", "django_otp.plugins.otp_static")
        for path in _sources(package)
    ).lower()
    words = list(words_of_python(Path(theme_words.__file__).read_text(encoding="utf-8")))
    djangos = {"static device", "static token"}  # of the names of the classes
    assert [word for word in words if word not in djangos and _as_written(word) not in packages] == []
    assert len(words) > 40


def _sources(package: str):
    folder = Path(find_spec(package).origin).parent
    return sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".html"))


def _as_written(word: str) -> str:
    """In one piece: a long text is written in several."""
    return word[:40].lower()


# Names of models and columns


def models():
    return [model for app in APPS for model in apps.get_app_config(app).get_models()]


def columns():
    return [field for model in models() for field in model._meta.get_fields() if field.concrete]


def test_english_names_are_those_of_the_tables_and_columns():
    with override("en"):
        given = {
            "OAuthState": "OAuth state", "created_by": "created by", "is_superuser": "superuser status",
            "user_permissions": "user permissions",
        }  # fmt: skip
        for model in models():
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", model.__name__).lower()
            assert model._meta.verbose_name == given.get(model.__name__, name)
        assert [
            str(field)
            for field in columns()
            if field.verbose_name.lower() != given.get(field.name, field.name.replace("_", " "))
        ] == []


def test_each_model_and_column_has_a_japanese_name():
    with override("ja"):
        names = [
            (str(model), str(name))
            for model in models()
            for name in (
                model._meta.verbose_name,
                model._meta.verbose_name_plural,
                model._meta.app_config.verbose_name,
            )
        ]
        names += [(str(field), str(field.verbose_name)) for field in columns()]
        names += [(str(field), str(label)) for field in columns() for _value, label in field.choices or []]
        names += [(str(field), str(field.help_text)) for field in columns() if field.help_text]
        words_as_they_are = {"ID", "nonce"}
        assert [
            (where, name) for where, name in names if not IN_JAPANESE.search(name) and name not in words_as_they_are
        ] == []


def test_what_a_constraint_refuses_is_said_in_japanese():
    with override("ja"):
        said = [
            (constraint.name, str(constraint.get_violation_error_message()))
            for model in models()
            for constraint in model._meta.constraints
        ]
    assert [each for each in said if not IN_JAPANESE.search(each[1])] == []
    assert len(said) > 40


# The readers


def test_words_are_read_from_python():
    text = """
from x import gettext as _
a = _("One") + gettext_lazy('Two'
    " and a half") % {"x": 1}
b = ngettext("%(n)d thing", "%(n)d things", n)
c = gettext(sentence)
"""
    assert sorted(words_of_python(text)) == ["%(n)d thing", "One", "Two and a half"]
    with pytest.raises(ValueError, match="malformed"):
        list(words_of_python('_("a" + b)'))
    with pytest.raises(ValueError, match="context"):
        list(words_of_python('pgettext("verb", "left")'))


def test_words_are_read_from_a_template():
    text = """{% load i18n %}{% translate "It’s (one)" %}{% include "x.html" with title=_("Findings") %}
{% blocktranslate with age=age %}Looked at {{ age }} ago.{% endblocktranslate %}
{% blocktranslate count counter=n %}{{ counter }} row{% plural %}{{ counter }} rows{% endblocktranslate %} _not"""
    assert list(words_of_template(text)) == [
        "It’s (one)", "Findings", "Looked at %(age)s ago.", "%(counter)s row",
    ]  # fmt: skip


def test_a_catalogue_is_read():
    text = """msgid ""
msgstr "Language: ja"

#, python-format
msgid "%(n)d thing"
msgid_plural "%(n)d things"
msgstr[0] "%(n)d個"

#, fuzzy
msgid ""
"a "
"\\"b\\""
msgstr ""

#~ msgid "old"
#~ msgstr "古い"
"""
    assert entries(text) == [
        Entry("%(n)d thing", "%(n)d things", "%(n)d個", "#, python-format"),
        Entry('a "b"', None, "", "#, fuzzy"),
        Entry("", None, "", '#~ msgid "old" #~ msgstr "古い"'),
    ]
