"""Pages about accounts."""

from django.urls import path

from models_app import views

urlpatterns = [
    path("signin", views.SignInView.as_view(), name="signin"),
    path("signout", views.sign_out, name="signout"),
    path("client-keys", views.client_keys, name="client-keys"),
    path("client-keys/<int:key_id>/remove", views.remove_key, name="remove-client-key"),
]
