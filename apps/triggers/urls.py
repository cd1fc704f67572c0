from django.urls import path

from apps.triggers import views

urlpatterns = [
    path("hooks/<str:address>", views.receive),
    path("hooks/<str:workspace>/<str:address>", views.receive),
    path("hooks/<str:address>/jobs/<str:job>", views.show_job),
    path("hooks/<str:workspace>/<str:address>/jobs/<str:job>", views.show_job),
]
