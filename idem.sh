#!/bin/bash
#OAR -l core=1,walltime=0:5:0
#OAR -t idempotent
[ -e /tmp/scratch/o/idem.done ] && { echo second; exit 0; }
touch /tmp/scratch/o/idem.done; sleep 65; exit 99
