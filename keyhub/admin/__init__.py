"""What the admins of several apps share.

links, organizations  addresses of pages; organizations, to which other tables refer by text
forms                 forms and inlines as the tables mean them
pages                 lists of any length, by keyset
journal               what operators change, told in the audit log
operations            what operators do beyond changing columns, after a question
refusals              sentences of triggers and operations in the operator's language
sections              what a row's page shows beside its form
deletion              what goes with a row that is deleted
model_admin           the model admins
counts, start_page    numbers, and the page that shows them
navigation            the menu
"""

from keyhub.admin.counts import Count, count_by_day, count_of, counted_in_a_list, told
from keyhub.admin.forms import DatabaseForms, KeyHubInline, as_uuid
from keyhub.admin.journal import NO_ORGANIZATION, Place, record
from keyhub.admin.links import link_to, link_to_list, link_to_page, page_of_list, page_of_row
from keyhub.admin.model_admin import JournaledAdmin, KeyHubAdmin, ReadOnlyAdmin
from keyhub.admin.operations import Operation, offer
from keyhub.admin.organizations import OrganizationFilter, validate_organization_id
from keyhub.admin.pages import AFTER, BEFORE, KeysetPage
from keyhub.admin.refusals import in_words, register_refusals
from keyhub.admin.sections import LATEST_AUDIT_ROWS, Section, Table, register_section
from keyhub.admin.start_page import CHART_DAYS, Chart, Number, register

__all__ = [
    "AFTER",
    "BEFORE",
    "CHART_DAYS",
    "LATEST_AUDIT_ROWS",
    "NO_ORGANIZATION",
    "Chart",
    "Count",
    "DatabaseForms",
    "JournaledAdmin",
    "KeyHubAdmin",
    "KeyHubInline",
    "KeysetPage",
    "Number",
    "Operation",
    "OrganizationFilter",
    "Place",
    "ReadOnlyAdmin",
    "Section",
    "Table",
    "as_uuid",
    "count_by_day",
    "count_of",
    "counted_in_a_list",
    "in_words",
    "link_to",
    "link_to_list",
    "link_to_page",
    "offer",
    "page_of_list",
    "page_of_row",
    "record",
    "register",
    "register_refusals",
    "register_section",
    "told",
    "validate_organization_id",
]
