"""What the pages of docs/deploy leave to the system: the rest of each proxy's configuration.

It is as in Debian, with what else a site may have set for all its servers: a password, a
charset, compression. The recipes have to undo that.
"""

from __future__ import annotations

import os
from pathlib import Path

from .proxies import Place, Recipe

MODULES = Path("/usr/lib/apache2/modules")

# nginx --------------------------------------------------------------------------------

NGINX = """
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log stderr info;
include /etc/nginx/modules-enabled/*.conf;
events {{ worker_connections 64; }}
http {{
    access_log {home}/site.log;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    gzip on;
    gzip_min_length 1;
    gzip_proxied any;
    gzip_types *;
    charset utf-8;
    charset_types *;
    auth_basic "members";
    auth_basic_user_file {home}/nobody;
    auth_request /members;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    include {home}/scep.conf;
}}
"""


def nginx_replacements(place: Place) -> dict[str, str]:
    return {
        "listen 80;": f"listen 127.0.0.1:{place.http};",
        "listen 443 ": f"listen 127.0.0.1:{place.https} ",
        "http://127.0.0.1:8080;": f"http://{place.backend};",
        "/etc/ssl/scep/chain.pem": place.file("chain.pem"),
        "/etc/ssl/scep/key.pem": place.file("key.pem"),
        "/var/log/nginx/": f"{place.home}/",
    }


def nginx_command(place: Place) -> list[str]:
    (place.home / "nginx.conf").write_text(NGINX.format(home=place.home))
    (place.home / "nobody").touch()
    # -e: the log before the configuration is read; without it, one in /var/log.
    return ["nginx", "-e", "stderr", "-p", str(place.home), "-c", place.file("nginx.conf")]


# Apache httpd -------------------------------------------------------------------------

APACHE = """
ServerRoot {home}
ServerName 127.0.0.1
PidFile {home}/apache.pid
DefaultRuntimeDir {home}
Mutex sem
ErrorLog {home}/error.log
LogLevel info
StartServers 1
User nobody
Group nogroup
{modules}
Listen 127.0.0.1:{http}
Listen 127.0.0.1:{https}
AddDefaultCharset utf-8
SetOutputFilter DEFLATE
<Location "/">
    AuthType Basic
    AuthName members
    AuthUserFile {home}/nobody
    Require valid-user
</Location>
Include {home}/scep.conf
"""
APACHE_MODULES = (
    "mpm_event authn_core authn_file auth_basic authz_core authz_user deflate env filter "
    "headers http2 proxy proxy_http reqtimeout setenvif socache_shmcb ssl"
).split()


def apache_replacements(place: Place) -> dict[str, str]:
    return {
        "<VirtualHost *:80>": f"<VirtualHost 127.0.0.1:{place.http}>",
        "<VirtualHost *:443>": f"<VirtualHost 127.0.0.1:{place.https}>",
        "http://127.0.0.1:8080/": f"http://{place.backend}/",
        "/etc/ssl/scep/chain.pem": place.file("chain.pem"),
        "/etc/ssl/scep/key.pem": place.file("key.pem"),
        "/etc/apache2/scep.inc": place.file("scep.inc"),
        "${APACHE_LOG_DIR}/": f"{place.home}/",
    }


def apache_command(place: Place) -> list[str]:
    modules = "\n".join(
        f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in APACHE_MODULES
    )
    main = APACHE.format(home=place.home, modules=modules, http=place.http, https=place.https)
    (place.home / "apache.conf").write_text(main)
    (place.home / "nobody").touch()
    return ["apache2", "-X", "-f", place.file("apache.conf")]


# HAProxy ------------------------------------------------------------------------------


def haproxy_replacements(place: Place) -> dict[str, str]:
    return {
        "bind :80\n": f"bind 127.0.0.1:{place.http}\n",
        "bind :443 ": f"bind 127.0.0.1:{place.https} ",
        "server pyscep 127.0.0.1:8080": f"server pyscep {place.backend}",
        "/etc/haproxy/scep.pem": place.file("scep.pem"),
        "log /dev/log local0": "log stdout format raw local0",
    }


def haproxy_command(place: Place) -> list[str]:
    os.symlink("output.log", place.home / "scep.log")
    return ["haproxy", "-db", "-f", place.file("haproxy.cfg")]


# Caddy --------------------------------------------------------------------------------


CADDY = """{
    admin off
    auto_https off
}
import Caddyfile
"""


def caddy_replacements(place: Place) -> dict[str, str]:
    return {
        "http://:80 {": f"http://:{place.http} {{\n\tbind 127.0.0.1",
        "https://:443 {": f"https://:{place.https} {{\n\tbind 127.0.0.1",
        "127.0.0.1:8080": place.backend,
        "/etc/ssl/scep/chain.pem": place.file("chain.pem"),
        "/etc/ssl/scep/key.pem": place.file("key.pem"),
        "/var/log/caddy/": f"{place.home}/",
    }


def caddy_command(place: Place) -> list[str]:
    (place.home / "main").write_text(CADDY)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", place.file("main")]


RECIPES = {
    "nginx": Recipe(
        program="nginx",
        page="nginx",
        needed="large_client_header_buffers",
        replacements=nginx_replacements,
        command=nginx_command,
    ),
    "Apache httpd": Recipe(
        program="apache2",
        page="apache",
        needed="LimitRequestLine",
        replacements=apache_replacements,
        command=apache_command,
    ),
    "HAProxy": Recipe(
        program="haproxy",
        page="haproxy",
        needed=r"tune\.bufsize",
        replacements=haproxy_replacements,
        command=haproxy_command,
    ),
    "Caddy": Recipe(
        program="caddy",
        page="caddy",
        needed=None,
        replacements=caddy_replacements,
        command=caddy_command,
    ),
}
