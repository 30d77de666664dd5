"""Pages about accounts."""

from django.urls import path

from models_app import views

urlpatterns = [
    path("signin", views.SignInView.as_view(), name="signin"),
    path("signout", views.sign_out, name="signout"),
]
