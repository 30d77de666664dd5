"""Pages about models that come and go: pull, create, upload, jobs. One module for each."""
