"""Pages about accounts."""

from django.urls import path

from models_app import joining_views, views
from models_app.pages import key, keys

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
    path("client-keys", views.client_keys, name="client-keys"),
    path("client-keys/<int:key_id>/remove", views.remove_key, name="remove-client-key"),
]
