"""Pages about models in use."""

from django.urls import path

from inference import views
from inference.pages import queue

urlpatterns = [
    path("home", views.home, name="home"),
    path("queue", queue.show, name="queue"),
    path("queue/<str:request_id>/cancel", queue.cancel, name="queue-cancel"),
]
