"""Pages about models in use."""

from django.urls import path

from inference import views

urlpatterns = [
    path("home", views.home, name="home"),
]
