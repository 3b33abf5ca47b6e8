"""Other threads of Python run while the library computes."""
import threading
import time


def check_others_run(compute):
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    compute()
    end = time.monotonic()
    done.set()
    thread.join()
    assert sum(begin < t < end for t in ticks) > 5 or end - begin < 0.05
