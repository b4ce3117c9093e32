"""What the ports' tests share."""

collect_ignore = ["server"]  # test_server_ports.py runs them, with a pytest.ini of their own
