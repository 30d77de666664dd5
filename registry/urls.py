"""Pages about models and what is done to them."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
