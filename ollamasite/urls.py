"""Every route of the site. A route needs a row in `models_app.policy`; a test compares the two."""

from django.urls import include, path
from django.views.generic import RedirectView

from inference.api import embed, native
from inference.api import queue as queue_api
from inference.api.anthropic import views as anthropic
from inference.api.openai import chat, completions, embeddings
from inference.api.responses import views as responses
from models_app import admin
from ollamasite import health
from ollamasite.openapi import OpenApiView
from registry.api import blobs, jobs, models, storage, transfers
from registry.api import create as registry_create
from registry.api import native as registry_native
from registry.api import openai as registry_openai
from registry.api.distribution import blobs as distribution_blobs
from registry.api.distribution import token
from registry.api.distribution import views as distribution

urlpatterns = [
    path("", native.root),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("openapi.json", OpenApiView.as_view()),
    # Ollama's dialect
    path("api/version", native.VersionView.as_view()),
    path("api/status", registry_native.StatusView.as_view()),
    path("api/storage", storage.StorageView.as_view()),
    path("api/tags", registry_native.TagsView.as_view()),
    path("api/ps", native.PsView.as_view()),
    path("api/queue", queue_api.QueueView.as_view()),
    path("api/show", registry_native.ShowView.as_view()),
    path("api/create", registry_create.CreateView.as_view()),
    path("api/pull", transfers.PullView.as_view()),
    path("api/push", transfers.PushView.as_view()),
    path("api/copy", models.CopyView.as_view()),
    path("api/delete", models.DeleteView.as_view()),
    path("api/blobs/<str:digest>", blobs.BlobView.as_view()),
    path("api/jobs", jobs.JobsView.as_view()),
    path("api/jobs/<str:job_id>", jobs.JobView.as_view()),
    path("api/jobs/<str:job_id>/cancel", jobs.CancelJobView.as_view()),
    path("api/jobs/<str:job_id>/retry", jobs.RetryJobView.as_view()),
    path("api/jobs/<str:job_id>/events", jobs.JobEventsView.as_view()),
    path("api/generate", native.GenerateView.as_view()),
    path("api/chat", native.ChatView.as_view()),
    path("api/embed", embed.EmbedView.as_view()),
    path("api/embeddings", embed.EmbeddingsView.as_view()),
    # OpenAI's dialect
    path("v1/models", registry_openai.ModelsView.as_view()),
    path("v1/models/<path:name>", registry_openai.ModelView.as_view()),
    path("v1/chat/completions", chat.ChatCompletionsView.as_view()),
    path("v1/completions", completions.CompletionsView.as_view()),
    path("v1/responses", responses.ResponsesView.as_view()),
    path("v1/responses/input_tokens", responses.InputTokensView.as_view()),
    path("v1/responses/<str:response_id>", responses.ResponseView.as_view()),
    path("v1/responses/<str:response_id>/input_items", responses.InputItemsView.as_view()),
    path("v1/responses/<str:response_id>/cancel", responses.CancelResponseView.as_view()),
    path("v1/embeddings", embeddings.OpenAIEmbeddingsView.as_view()),
    # Anthropic's dialect
    path("v1/messages", anthropic.MessagesView.as_view()),
    path("v1/messages/count_tokens", anthropic.CountTokensView.as_view()),
    # The registry's dialect
    path("v2/token", token.TokenView.as_view()),
    # files go beside Django (registry.distribution_app): these refuse other methods
    path("v2/<path:name>/blobs/uploads/", distribution_blobs.UploadsView.as_view()),
    path("v2/<path:name>/blobs/uploads/<str:session>", distribution_blobs.SessionView.as_view()),
    path("v2/<path:name>/blobs/<str:digest>", distribution_blobs.BlobView.as_view()),
    path("v2", distribution.PingView.as_view()),
    path("v2/", distribution.PingView.as_view()),
    path("v2/_catalog", distribution.CatalogView.as_view()),
    path("v2/<path:name>/manifests/<str:reference>", distribution.ManifestView.as_view()),
    path("v2/<path:name>/tags/list", distribution.TagsView.as_view()),
    path("v2/<path:name>/referrers/<str:digest>", distribution.ReferrersView.as_view()),
    # pages
    path("", include("models_app.urls")),
    path("", include("inference.urls")),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/", admin.site.urls),
]

handler400 = "ollamasite.error_responses.page_bad_request"
handler403 = "ollamasite.error_responses.page_forbidden"
handler404 = "ollamasite.error_responses.page_not_found"
handler500 = "ollamasite.error_responses.page_server_error"
