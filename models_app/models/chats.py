"""Chats of the site's own page: what was asked and answered, kept for their owner alone."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from models_app.models.accounts import User


class ChatFolder(models.Model):
    """A folder of somebody's chats."""

    folder_id = models.CharField(max_length=32, unique=True)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="chat_folders")
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return self.folder_id


class Chat(models.Model):
    """A tree of messages: an edit or another answer is a sibling of what was there.

    `head` is the message that ends the branch which is shown. What the next question is asked with
    stands here; `options`, `tools` and `think` are JSON text. `size_bytes` is of all its messages
    and images.
    """

    chat_id = models.CharField(max_length=32, unique=True)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="chats")
    folder = models.ForeignKey(
        ChatFolder, on_delete=models.SET_NULL, null=True, blank=True, related_name="chats"
    )
    title = models.CharField(max_length=200)
    is_pinned = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    head = models.CharField(max_length=32, blank=True)
    size_bytes = models.PositiveBigIntegerField(default=0)
    model_name = models.CharField(max_length=700, blank=True)
    system = models.TextField(blank=True)
    options = models.TextField(default="{}")
    tools = models.TextField(default="[]")
    think = models.CharField(max_length=16, default="null")

    class Meta:
        indexes = [
            models.Index(fields=["owner", "updated_at"], name="chat_of_owner"),
            models.Index(fields=["owner", "size_bytes"], name="chat_size_of_owner"),
        ]

    def __str__(self) -> str:
        return self.chat_id


class ChatMessage(models.Model):
    """A question, an answer, or the results of the calls that an answer asked for.

    `parent` is the id of the message before it and no foreign key: a chat's rows go in one
    statement. `calls` is JSON text, of an answer what it calls, of a "tool" message the results.
    Of an answer `version` grows with its text, `shown` is what its Markdown was made into (JSON),
    and while it runs, `beat_at` is when its process was last seen.
    """

    message_id = models.CharField(max_length=32, unique=True)
    chat = models.ForeignKey(Chat, on_delete=models.CASCADE, related_name="messages")
    parent = models.CharField(max_length=32, blank=True)
    role = models.CharField(max_length=16)
    created_at = models.DateTimeField(default=timezone.now)
    text = models.TextField(blank=True)
    thinking = models.TextField(blank=True)
    calls = models.TextField(default="[]")
    model_name = models.CharField(max_length=700, blank=True)
    state = models.CharField(max_length=16, default="done")
    error = models.TextField(blank=True)
    error_id = models.CharField(max_length=40, blank=True)
    figures = models.TextField(default="{}")
    version = models.PositiveBigIntegerField(default=0)
    shown = models.TextField(blank=True)
    process = models.CharField(max_length=32, blank=True)
    beat_at = models.DateTimeField(null=True)
    is_stop_asked = models.BooleanField(default=False)

    class Meta:
        indexes = [
            models.Index(fields=["state"], name="chat_running", condition=Q(state="running")),
        ]

    def __str__(self) -> str:
        return self.message_id


class ChatImage(models.Model):
    """An image of a question."""

    image_id = models.CharField(max_length=32, unique=True)
    chat = models.ForeignKey(Chat, on_delete=models.CASCADE, related_name="images")
    message = models.CharField(max_length=32)  # its id
    name = models.CharField(max_length=255, blank=True)
    media_type = models.CharField(max_length=40)
    size_bytes = models.PositiveBigIntegerField()
    data = models.BinaryField()

    def __str__(self) -> str:
        return self.image_id
