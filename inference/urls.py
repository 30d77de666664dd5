"""Pages about models in use."""

from django.urls import path

from inference import views
from inference.pages import model_acts, models, queue

urlpatterns = [
    path("home", views.home, name="home"),
    path("queue", queue.show, name="queue"),
    path("queue/<str:request_id>/cancel", queue.cancel, name="queue-cancel"),
    path("models", models.models, name="models"),
    path("models/<path:name>/load", model_acts.load, name="model-load"),
    path("models/<path:name>/unload", model_acts.unload, name="model-unload"),
    path("models/<path:name>/pin", model_acts.pin, name="model-pin"),
    path("models/<path:name>/copy", model_acts.copy, name="model-copy"),
    path("models/<path:name>/delete", model_acts.delete, name="model-delete"),
    path("models/<path:name>/access", model_acts.access, name="model-access"),
    path("models/<path:name>/text/<str:part>", models.model_text, name="model-text"),
    path("models/<path:name>", models.model, name="model"),
]
