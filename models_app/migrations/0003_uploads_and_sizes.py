import json

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


def fill_sizes(apps, schema_editor):
    """Sum up the layers of the manifests that are there, as new ones do when they are written."""
    manifest_model = apps.get_model('models_app', 'Manifest')
    for row in manifest_model.objects.only('pk', 'body').iterator():
        body = json.loads(bytes(row.body))
        layers = [body['config'], *body['layers']]
        size_bytes = sum(layer['size'] for layer in layers)
        manifest_model.objects.filter(pk=row.pk).update(size_bytes=size_bytes)


class Migration(migrations.Migration):

    dependencies = [
        ('models_app', '0002_model_serving'),
    ]

    operations = [
        migrations.AddField(
            model_name='manifest',
            name='size_bytes',
            field=models.PositiveBigIntegerField(default=0),
        ),
        migrations.RunPython(fill_sizes, migrations.RunPython.noop),
        migrations.CreateModel(
            name='Upload',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(db_index=True, max_length=64)),
                ('size_bytes', models.PositiveBigIntegerField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='uploads', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('user', 'digest'), name='upload_once')],
            },
        ),
    ]
