import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('models_app', '0003_uploads_and_sizes'),
    ]

    operations = [
        migrations.CreateModel(
            name='StoredResponse',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('response_id', models.CharField(max_length=64, unique=True)),
                ('model_name', models.CharField(max_length=700)),
                ('created_at', models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
                ('previous_id', models.CharField(blank=True, max_length=64)),
                ('root_id', models.CharField(db_index=True, max_length=64)),
                ('size_bytes', models.PositiveBigIntegerField()),
                ('input', models.TextField()),
                ('body', models.TextField()),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='responses', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(fields=['owner', 'created_at', 'size_bytes'], name='response_of_owner')],
            },
        ),
    ]
