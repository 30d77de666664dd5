"""Dates and times that sort, and say the second: of the form of ISO 8601. Read by Django."""

DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
DATETIME_FORMAT = "Y-m-d H:i:s"
