"""Pages about models and the work on them."""

from django.urls import path

from registry.pages import create, jobs, pull, upload

urlpatterns = [
    path("models/pull", pull.pull, name="models-pull"),
    path("models/pull/check", pull.check, name="check-pull"),
    path("models/create", create.create, name="models-create"),
    path("models/create/check", create.check, name="check-create"),
    path("models/upload", upload.upload, name="models-upload"),
    path("models/upload/begin", upload.begin, name="begin-upload"),
    path("models/upload/finish", upload.finish, name="finish-upload"),
    path("jobs", jobs.jobs, name="jobs"),
    path("jobs/strip", jobs.strip, name="job-strip"),
    path("jobs/<str:job_id>", jobs.job, name="job"),
    path("jobs/<str:job_id>/cancel", jobs.cancel, name="cancel-job"),
    path("jobs/<str:job_id>/retry", jobs.retry, name="retry-job"),
    path("jobs/<str:job_id>/dismiss", jobs.dismiss, name="dismiss-job"),
]
