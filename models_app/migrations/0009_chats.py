
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('models_app', '0008_ledger_sums'),
    ]

    operations = [
        migrations.CreateModel(
            name='ChatFolder',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('folder_id', models.CharField(max_length=32, unique=True)),
                ('name', models.CharField(max_length=100)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='chat_folders', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['name', 'pk'],
            },
        ),
        migrations.CreateModel(
            name='Chat',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('chat_id', models.CharField(max_length=32, unique=True)),
                ('title', models.CharField(max_length=200)),
                ('is_pinned', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('head', models.CharField(blank=True, max_length=32)),
                ('size_bytes', models.PositiveBigIntegerField(default=0)),
                ('model_name', models.CharField(blank=True, max_length=700)),
                ('system', models.TextField(blank=True)),
                ('options', models.TextField(default='{}')),
                ('tools', models.TextField(default='[]')),
                ('think', models.CharField(default='null', max_length=16)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='chats', to=settings.AUTH_USER_MODEL)),
                ('folder', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='chats', to='models_app.chatfolder')),
            ],
        ),
        migrations.CreateModel(
            name='ChatImage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('image_id', models.CharField(max_length=32, unique=True)),
                ('message', models.CharField(max_length=32)),
                ('name', models.CharField(blank=True, max_length=255)),
                ('media_type', models.CharField(max_length=40)),
                ('size_bytes', models.PositiveBigIntegerField()),
                ('data', models.BinaryField()),
                ('chat', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='images', to='models_app.chat')),
            ],
        ),
        migrations.CreateModel(
            name='ChatMessage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('message_id', models.CharField(max_length=32, unique=True)),
                ('parent', models.CharField(blank=True, max_length=32)),
                ('role', models.CharField(max_length=16)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('text', models.TextField(blank=True)),
                ('thinking', models.TextField(blank=True)),
                ('calls', models.TextField(default='[]')),
                ('model_name', models.CharField(blank=True, max_length=700)),
                ('state', models.CharField(default='done', max_length=16)),
                ('error', models.TextField(blank=True)),
                ('error_id', models.CharField(blank=True, max_length=40)),
                ('figures', models.TextField(default='{}')),
                ('version', models.PositiveBigIntegerField(default=0)),
                ('shown', models.TextField(blank=True)),
                ('process', models.CharField(blank=True, max_length=32)),
                ('beat_at', models.DateTimeField(null=True)),
                ('is_stop_asked', models.BooleanField(default=False)),
                ('chat', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='models_app.chat')),
            ],
        ),
        migrations.AddIndex(
            model_name='chat',
            index=models.Index(fields=['owner', 'updated_at'], name='chat_of_owner'),
        ),
        migrations.AddIndex(
            model_name='chat',
            index=models.Index(fields=['owner', 'size_bytes'], name='chat_size_of_owner'),
        ),
        migrations.AddIndex(
            model_name='chatmessage',
            index=models.Index(condition=models.Q(('state', 'running')), fields=['state'], name='chat_running'),
        ),
    ]
