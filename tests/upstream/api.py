"""A directory of members as Django and Django REST framework make one: model, serializers, views, authentication, pagings."""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.dateparse import parse_datetime
from rest_framework import authentication, exceptions, generics, pagination, permissions, serializers
from rest_framework.response import Response

from tests.upstream.faults import STATE

START = datetime(2026, 11, 1, tzinfo=UTC)


class Member(models.Model):
    kennitala = models.CharField(max_length=11)
    name = models.CharField(max_length=255)
    email = models.CharField(max_length=320)
    phone = models.CharField(max_length=64)
    is_active = models.BooleanField(default=True)
    updated_at = models.DateTimeField()
    notes = models.TextField(default="")

    class Meta:
        app_label = "upstream"


def person(number: int) -> Member:
    """The member of that number, always the same."""
    return Member(
        id=number,
        kennitala=f"{number % 28 + 1:02}0180{number % 10000:04}" if number < 10_000 else f"{number:010}",
        name=f"Member {number}",
        email=f"member{number}@example.com",
        phone=f"+354 {number:07}",
        updated_at=START + timedelta(seconds=number),
    )


class Flat(serializers.ModelSerializer[Member]):
    """The shape of the seed."""

    class Meta:
        model = Member
        fields = ("id", "kennitala", "name", "email")

    def to_representation(self, instance: Member) -> dict[str, Any]:
        return STATE.dressed(dict(super().to_representation(instance)))


class Nested(serializers.ModelSerializer[Member]):
    """Another shape: nested, with hyphenated national ids, a boolean for a state, and more than anybody asked for."""

    class Meta:
        model = Member
        fields = ("id", "name", "is_active", "updated_at")

    def to_representation(self, instance: Member) -> dict[str, Any]:
        return {
            **super().to_representation(instance),
            "uid": f"p-{instance.pk}",
            "ssn": f"{instance.kennitala[:6]}-{instance.kennitala[6:]}",
            "contact_info": {"email": instance.email, "phone": instance.phone, "fax": None},
            "groups": ["a", "b"],
        }


class KeyAuthentication(authentication.BaseAuthentication):
    def authenticate(self, request: Any) -> tuple[Any, Any] | None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if not key:
            return None
        if scheme != STATE.auth or not hmac.compare_digest(key.encode(), STATE.key.encode()):
            raise exceptions.AuthenticationFailed("Invalid token.")
        return object(), key

    def authenticate_header(self, request: Any) -> str:
        return STATE.auth


class HasKey(permissions.BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return request.auth is not None


class ByNumber(pagination.PageNumberPagination):
    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 5000


class ByOffset(pagination.LimitOffsetPagination):
    default_limit = 100
    max_limit = 5000


class ByCursor(pagination.CursorPagination):
    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 5000
    ordering = "id"


class Listing(generics.ListAPIView):  # type: ignore[type-arg]
    authentication_classes = (KeyAuthentication,)
    permission_classes = (HasKey,)

    def get_queryset(self) -> Any:
        members = Member.objects.order_by("id")
        since = self.request.query_params.get("updated_since")
        if since is None:
            return members
        instant = parse_datetime(since)
        if instant is None:
            raise exceptions.ValidationError({"updated_since": "no time"})
        return members.filter(updated_at__gte=instant)


class Bare(Listing):
    """`{results}` and nothing else, as in the seed."""

    def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response({"results": super().list(request, *args, **kwargs).data})


def listing(view: type[Listing], serializer: Any, paging: Any) -> Any:
    return view.as_view(serializer_class=serializer, pagination_class=paging)


def as_csv(request: HttpRequest) -> HttpResponse:
    """Everybody in a file."""
    if request.headers.get("authorization") != f"{STATE.auth} {STATE.key}":
        return HttpResponse(status=401)
    lines = ["id,kennitala,name,email\r\n"]
    lines += [f'{one.pk},{one.kennitala},"{one.name}",{one.email}\r\n' for one in Member.objects.order_by("id")]
    return HttpResponse("".join(lines), content_type="text/csv")


def as_json_lines(request: HttpRequest) -> HttpResponse:
    """The same, an object a line."""
    if request.headers.get("authorization") != f"{STATE.auth} {STATE.key}":
        return HttpResponse(status=401)
    records = [
        {"id": one.pk, "kennitala": one.kennitala, "name": one.name, "email": one.email} for one in Member.objects.order_by("id")
    ]
    return HttpResponse("".join(f"{json.dumps(one)}\n" for one in records), content_type="application/jsonl")


PAGINGS = {"page-number": ByNumber, "limit-offset": ByOffset, "cursor": ByCursor, "list": None}

urlpatterns = [
    *(path(f"{name}/api/members/", listing(Listing, Flat, paging)) for name, paging in PAGINGS.items()),
    *(path(f"{name}/api/people/", listing(Listing, Nested, paging)) for name, paging in PAGINGS.items()),
    path("bare/api/members/", listing(Bare, Flat, None)),
    path("files/members.csv", as_csv),
    path("files/members.jsonl", as_json_lines),
]
