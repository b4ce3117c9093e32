"""What the project's own tests share."""

from __future__ import annotations


def pytest_terminal_summary(terminalreporter):
    """Tell how many recorded steps of the SDK's stub were replayed."""
    steps = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "conformance steps"
    ]
    if steps:
        terminalreporter.write_line(
            f"conformance: {sum(steps)} recorded steps replayed in {len(steps)} traces, all agree"
        )
