#!/bin/bash
#OAR -l core=8,walltime=0:5:0
#OAR -t besteffort
sleep 200
