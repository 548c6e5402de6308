<?php
// A page; nothing in it knows of pupgevent.
header("Content-Type: text/plain");
if ($_SERVER["REQUEST_URI"] === "/slow") {
    // An answer that takes a second: try it during a restart. (A signal ends sleep(1) early.)
    for ($i = 0; $i < 10; $i++) {
        usleep(100000);
    }
    echo "That took a while\n";
} else {
    printf("Hello from instance %s, pid %d\n", getenv("PUP_CLUSTER_INSTANCE"), getmypid());
}
