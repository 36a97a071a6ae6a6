"""Envoy's three configurations. Debian has no Envoy: the variable ENVOY says where its binary is."""

import json
import os

from .forward_configs import ROOM
from .forward_ends import ENDS, LOCAL, WEB

TYPES = "type.googleapis.com/envoy.extensions"


def _typed(name, type_, **fields):
    return {"name": name, "typed_config": {"@type": f"{TYPES}.{type_}", **fields}}


def _address(port):
    return {"socket_address": {"address": LOCAL, "port_value": port}}


def _cluster(end, **more):
    thresholds = {"max_connections": ROOM, "max_pending_requests": ROOM, "max_requests": ROOM}
    endpoint = {"lb_endpoints": [{"endpoint": {"address": _address(end.port)}}]}
    return {
        "name": end.id,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [thresholds]},
        "load_assignment": {"cluster_name": end.id, "endpoints": [endpoint]},
        **more,
    }


def _http(hosts, **more):
    router = _typed("router", "filters.http.router.v3.Router", suppress_envoy_headers=True)
    return _typed(
        "http",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="http",
        generate_request_id=False,
        # Else a tunnel outlives its far end until the client goes.
        delayed_close_timeout="0s",
        route_config={"virtual_hosts": hosts},
        http_filters=[router],
        **more,
    )


def _command(place, chains, clusters, **listener):
    listener = {
        "name": "entrance",
        "address": _address(place.port),
        "tcp_backlog_size": 4096,
        "filter_chains": chains,
        **listener,
    }
    text = json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}})
    file = place.write("envoy.json", text)
    return [os.environ.get("ENVOY"), "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


def sni(place):
    chains = [
        {
            "filter_chain_match": {"server_names": [end.host]},
            "filters": [
                _typed("tcp", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=end.id, cluster=end.id)
            ],
        }
        for end in ENDS
    ]
    inspector = _typed("inspector", "filters.listener.tls_inspector.v3.TlsInspector")
    return _command(place, chains, [_cluster(end) for end in ENDS], listener_filters=[inspector])


def connect(place):
    upgrade = {"upgrade_type": "CONNECT"}
    hosts = [
        {
            "name": end.id,
            "domains": [f"{end.host}:{end.port}"],
            "routes": [
                {
                    "match": {"connect_matcher": {}},
                    "route": {"cluster": end.id, "upgrade_configs": [{**upgrade, "connect_config": {}}]},
                }
            ],
        }
        for end in ENDS
    ]
    chains = [{"filters": [_http(hosts, upgrade_configs=[upgrade])]}]
    return _command(place, chains, [_cluster(end) for end in ENDS])


def tls(place):
    certificate = place.certificate
    pair = {
        "certificate_chain": {"filename": str(certificate.certificate)},
        "private_key": {"filename": str(certificate.key)},
    }
    server = _typed(
        "tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
        common_tls_context={"alpn_protocols": ["http/1.1"], "tls_certificates": [pair]},
    )
    trusted = {"validation_context": {"trusted_ca": {"filename": str(certificate.root)}}}
    client = _typed(
        "tls", "transport_sockets.tls.v3.UpstreamTlsContext", sni=WEB.host, common_tls_context=trusted
    )
    route = {"match": {"prefix": "/"}, "route": {"cluster": WEB.id}}
    host = {"name": "all", "domains": ["*"], "routes": [route]}
    chains = [{"filters": [_http([host])], "transport_socket": server}]
    return _command(place, chains, [_cluster(WEB, transport_socket=client)])
