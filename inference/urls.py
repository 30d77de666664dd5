"""Pages about models in use."""

from django.urls import path

from inference.pages import chat, home, model_acts, models, queue

urlpatterns = [
    path("home", home.show, name="home"),
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
    path("chat", chat.page, name="chat"),
    path("chat/list", chat.chat_list, name="chat-list"),
    path("chat/folders", chat.create_folder, name="chat-folders"),
    path("chat/folders/<str:folder_id>/rename", chat.rename_folder, name="chat-folder-rename"),
    path("chat/folders/<str:folder_id>/delete", chat.delete_folder, name="chat-folder-delete"),
    path("chat/images/<str:image_id>", chat.image, name="chat-image"),
    path("chat/<str:chat_id>", chat.page, name="chat-open"),
    path("chat/<str:chat_id>/messages", chat.messages, name="chat-messages"),
    path("chat/<str:chat_id>/export", chat.export_chat, name="chat-export"),
    path("chat/<str:chat_id>/rename", chat.rename, name="chat-rename"),
    path("chat/<str:chat_id>/move", chat.move, name="chat-move"),
    path("chat/<str:chat_id>/pin", chat.pin, name="chat-pin"),
    path("chat/<str:chat_id>/delete", chat.delete, name="chat-delete"),
    path("chat/<str:chat_id>/head", chat.head, name="chat-head"),
    path("chat/<str:chat_id>/system", chat.system, name="chat-system"),
]
