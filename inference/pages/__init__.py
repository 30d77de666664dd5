"""Pages about models in use: home, chat, queue, models. One module for each."""
