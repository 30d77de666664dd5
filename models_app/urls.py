"""Pages about accounts."""

from django.urls import path

from models_app import joining_views, views
from models_app.pages import key, keys, own_data, profile, sessions, team, teams, usage

urlpatterns = [
    path("signin", views.SignInView.as_view(), name="signin"),
    path("signout", views.sign_out, name="signout"),
    path("signup", joining_views.signup, name="signup"),
    path("invite", joining_views.invite, name="invite"),
    path("invite/<str:secret>", joining_views.open_invite, name="open-invite"),
    path("password", joining_views.OwnPasswordView.as_view(), name="own-password"),
    path(
        "password/<uidb64>/<token>",
        joining_views.NewPasswordView.as_view(),
        name="new-password",
    ),
    path("keys", keys.key_list, name="keys"),
    path("keys/new", keys.new_key, name="new-key"),
    path("keys/<str:prefix>", key.key, name="key"),
    path("keys/<str:prefix>/rename", key.rename, name="rename-key"),
    path("keys/<str:prefix>/rotate", key.rotate, name="rotate-key"),
    path("keys/<str:prefix>/revoke", key.revoke, name="revoke-key"),
    path("teams", teams.team_list, name="teams"),
    path("teams/<str:name>", team.team, name="team"),
    path("teams/<str:name>/description", team.describe, name="describe-team"),
    path("teams/<str:name>/allowed-models", team.allow_models, name="allow-models"),
    path("teams/<str:name>/delete", team.delete, name="delete-team"),
    path("teams/<str:name>/invites", team.invite, name="invite-to-team"),
    path("teams/<str:name>/members", team.add_member, name="add-member"),
    path("teams/<str:name>/members/<str:user>", team.change_role, name="change-role"),
    path("teams/<str:name>/members/<str:user>/remove", team.remove_member, name="remove-member"),
    path("teams/<str:name>/service-accounts", team.add_service, name="add-service"),
    path(
        "teams/<str:name>/service-accounts/<str:user>/deactivate",
        team.stop_service,
        name="stop-service",
    ),
    path(
        "teams/<str:name>/service-accounts/<str:user>/activate",
        team.start_service,
        name="start-service",
    ),
    path("invites", teams.invite_list, name="invites"),
    path("invites/<int:invite_id>/revoke", teams.revoke_invite, name="revoke-invite"),
    path("profile", profile.profile, name="profile"),
    path("profile/home-team", profile.home_team, name="home-team"),
    path("profile/export", own_data.export, name="export-own-data"),
    path("profile/delete", own_data.delete, name="delete-account"),
    path("sessions/end-others", sessions.end_others, name="end-other-sessions"),
    path("sessions/<int:session_id>/end", sessions.end, name="end-session"),
    path("client-keys", views.client_keys, name="client-keys"),
    path("client-keys/<int:key_id>/remove", views.remove_key, name="remove-client-key"),
    path("usage", usage.usage, name="usage"),
    path("usage/requests", usage.requests, name="usage-requests"),
    path("usage/requests/<str:request_id>", usage.one_request, name="usage-request"),
    path("usage/export.csv", usage.export, name="usage-export"),
]
