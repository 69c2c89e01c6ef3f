"""A spreadsheet of a folder of interviews: a row a file, the doubtful ones on top.

    python interviews.py entrevistas table.csv

Any spreadsheet opens the table. A file that cannot be read gets a row that says
why. What is done is kept in `interviews.jsonl`: stop, and the same line goes on.
With no folder named, it is the course's recordings of one voice.
"""

import sys
from pathlib import Path

import ptlab

one_voice = ptlab.load_corpus("dev").filter(speaker="pm_santa", domain="travel")
interviews = sys.argv[1] if len(sys.argv) > 1 else one_voice.frame.file.tolist()
table = sys.argv[2] if len(sys.argv) > 2 else "interviews.csv"

report = ptlab.transcribe_files(interviews, journal="interviews.jsonl")

rows = report.to_frame().sort_values("confidence", na_position="first")
rows.insert(0, "file", [Path(path).name for path in rows.path])
rows["minutes"] = (rows.duration_s / 60).round(2)
columns = ["file", "minutes", "confidence", "status", "text", "message"]
as_in_brazil = {"sep": ";", "decimal": ",", "encoding": "utf-8-sig"}  # what Excel expects there
rows[columns].to_csv(table, index=False, **as_in_brazil)

print(report)
