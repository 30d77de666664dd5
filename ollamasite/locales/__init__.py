"""How the site writes dates and times, by language (settings.FORMAT_MODULE_PATH)."""
