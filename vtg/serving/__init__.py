"""What the servers (`vtg.serve`, `vtg.app`) share: a model that many ask, what they may have it open, how it is served.

with ModelWorker(ask_settings(checkpoint)) as worker, Admission(limits, allow_dirs=...) as admission:
    with admission.session() as session:
        future = worker.submit(Question(VideoWindow(session.admit(url)), ["a man sits down"]))
"""
