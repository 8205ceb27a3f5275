"""The rules as system checks, without squawk: `manage.py check` is run often, and by other commands."""

from django.core import checks


@checks.register("migrations")
def migrations_keep_the_rules(app_configs, databases=None, **kwargs) -> list[checks.CheckMessage]:
    """keyhub.M001 and onwards. Warnings, since an error would also stop the commands that mend it.

    Not asked about a database, as by migrate: that is to be quick, and its migrations have been checked before.
    """
    if databases:
        return []
    # Imported here, since this module is loaded by every command, and most of them check nothing.
    from keyhub.lintmigrations import linter
    from keyhub.lintmigrations.findings import LintError

    try:
        report = linter.lint_project(ask_squawk=False)
    except LintError as error:
        return [checks.Warning(f"The migrations cannot be linted: {error}", id="keyhub.M000")]
    return [
        checks.Warning(
            finding.problem, hint=finding.mend, obj=f"{finding.place.path}:{finding.place.line}", id=finding.id
        )
        for finding in report.findings
    ]
