#!/bin/bash
#OAR -l core=1,walltime=0:5:0
echo "id=$OAR_JOB_ID array=$OAR_ARRAY_ID index=$OAR_ARRAY_INDEX name=$OAR_JOB_NAME pwd=$PWD args=$*"; sleep ${1:-1}; eval "${2:-true}"
