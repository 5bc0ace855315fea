"""Write the generated rules and dashboards: `python -m monitoring`."""

from monitoring.generated import generated_files

for path, text in generated_files().items():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
