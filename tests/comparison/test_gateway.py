"""What is read out of the gateway's log."""

from optimizely_api.comparison.rig.gateway import commonest_warning

BOOTING = "2026-01-05 09:30:00,000 INFO     [7] gunicorn.error: Booting worker with pid: 7\n"
WHILE_STARTING = """\
2026-01-05 09:30:00,500 WARNING  [7] optimizely_api.runtime.watchdog: the event loop is held for more than 0.1 s by:
  File "gasgi.py", line 1, in run
    self.loop.run_until_complete(main())
2026-01-05 09:30:00,600 WARNING  [7] optimizely_api.runtime.watchdog: the event loop was held for about 0.112 s
"""
BY_A_VIEW = """\
2026-01-05 09:30:01,000 WARNING  [7] optimizely_api.runtime.watchdog: the event loop is held for more than 0.1 s by:
  File "gasgi.py", line 1, in run
    self.loop.run_until_complete(main())
  File "view_kind.py", line 24, in coroutine_view
    return view(context, request)
  File "/home/me/optimizely_api/optimizely_api/comparison/rig/application.py", line 60, in hold_the_loop
    time.sleep(float(request.GET["ms"]) / 1000)
2026-01-05 09:30:01,400 WARNING  [7] optimizely_api.runtime.watchdog: the event loop was held for about 0.512 s
"""


def test_the_commonest_warning_is_shown_with_what_held_the_loop_and_without_the_machines_folders():
    assert commonest_warning(BOOTING + WHILE_STARTING + 2 * BY_A_VIEW) == [
        "the event loop is held for more than 0.1 s by:",
        '  File "view_kind.py", line 24, in coroutine_view',
        "    return view(context, request)",
        '  File "optimizely_api/comparison/rig/application.py", line 60, in hold_the_loop',
        '    time.sleep(float(request.GET["ms"]) / 1000)',
    ]


def test_a_log_without_stalls_has_nothing_to_show():
    assert commonest_warning(BOOTING) == []
