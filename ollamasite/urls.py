"""Every route of the site. A route needs a row in `models_app.policy`; a test compares the two."""

from django.urls import include, path
from django.views.generic import RedirectView

from inference import admin
from inference.api import embed, native, nodes
from inference.api import queue as queue_api
from inference.api.anthropic import views as anthropic
from inference.api.openai import chat, completions, embeddings
from inference.api.responses import views as responses
from models_app.api import access, audit, limits, me, own_data, teams, usage, users
from models_app.api import invites as invites_api
from models_app.api import keys as keys_api
from ollamasite import health, metrics, openapi_pages
from ollamasite.openapi import OpenApiView
from registry.api import blobs, jobs, models, node_blobs, storage, transfers
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
    path("metrics", metrics.metrics),
    path("openapi.json", OpenApiView.as_view(), name="openapi"),
    # Ollama's dialect
    path("api/version", native.VersionView.as_view()),
    path("api/status", registry_native.StatusView.as_view()),
    path("api/storage", storage.StorageView.as_view()),
    path("api/tags", registry_native.TagsView.as_view()),
    path("api/ps", native.PsView.as_view()),
    path("api/queue", queue_api.QueueView.as_view()),
    path("api/queue/<str:request_id>/cancel", queue_api.CancelRequestView.as_view()),
    path("api/show", registry_native.ShowView.as_view()),
    path("api/create", registry_create.CreateView.as_view()),
    path("api/pull", transfers.PullView.as_view()),
    path("api/push", transfers.PushView.as_view()),
    path("api/copy", models.CopyView.as_view()),
    path("api/delete", models.DeleteView.as_view()),
    path("api/blobs/<str:digest>", blobs.BlobView.as_view()),
    path("api/nodes/join", nodes.JoinView.as_view()),
    path("api/nodes/blobs/<str:digest>", node_blobs.NodeBlobView.as_view()),
    path("api/audit", audit.AuditView.as_view()),
    path("api/usage", usage.UsageView.as_view()),
    path("api/usage/requests", usage.RequestsView.as_view()),
    path("api/usage/export", usage.ExportView.as_view()),
    path("api/me", me.MeView.as_view()),
    path("api/users", users.UsersView.as_view()),
    path("api/users/<str:name>", users.UserView.as_view()),
    path("api/users/<str:name>/approve", users.ApproveView.as_view()),
    path("api/users/<str:name>/activate", users.ActivateView.as_view()),
    path("api/users/<str:name>/deactivate", users.DeactivateView.as_view()),
    path("api/users/<str:name>/sessions/end", users.EndSessionsView.as_view()),
    path("api/users/<str:name>/password-link", users.PasswordLinkView.as_view()),
    path("api/teams", teams.TeamsView.as_view()),
    path("api/teams/<str:name>", teams.TeamView.as_view()),
    path("api/teams/<str:name>/members", teams.MembersView.as_view()),
    path("api/teams/<str:name>/members/<str:user>", teams.MemberView.as_view()),
    path("api/teams/<str:name>/service-accounts", teams.ServiceAccountsView.as_view()),
    path("api/invites", invites_api.InvitesView.as_view()),
    path("api/invites/<str:invite_id>", invites_api.InviteView.as_view()),
    path("api/me/export", own_data.ExportView.as_view()),
    path("api/me/delete", own_data.DeleteView.as_view()),
    path("api/keys", keys_api.KeysView.as_view()),
    path("api/keys/<str:prefix>", keys_api.KeyView.as_view()),
    path("api/keys/<str:prefix>/rotate", keys_api.RotateKeyView.as_view()),
    path("api/access", access.AccessView.as_view()),
    path("api/limits", limits.LimitsView.as_view()),
    path("api/limit-rules", limits.LimitRulesView.as_view()),
    path("api/limit-rules/<int:rule_id>", limits.LimitRuleView.as_view()),
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
    path("api-docs", openapi_pages.overview, name="api"),
    path("api-docs/<str:operation_id>", openapi_pages.operation, name="api-operation"),
    path("", include("models_app.urls")),
    path("", include("registry.urls")),
    path("", include("inference.urls")),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/", admin.site.urls),
]

handler400 = "ollamasite.error_responses.page_bad_request"
handler403 = "ollamasite.error_responses.page_forbidden"
handler404 = "ollamasite.error_responses.page_not_found"
handler500 = "ollamasite.error_responses.page_server_error"
