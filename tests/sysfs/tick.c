// tick ROOT [mirror=1] [hz=N] [near=SECONDS] [fixed=W] [rest=W] : advance every energy_uj below ROOT like a real CPU. Says `ready` when each shows its energy.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
#include <ftw.h>
#include <time.h>
#include <math.h>
#include <signal.h>
static volatile int rst=0,frz=0,wrk=0; static void onr(int s){rst=1;} static void onf(int s){frz=!frz;} static void onw(int s){wrk=!wrk;}
struct zone { char path[512]; char name[64]; int fd; double range, e, idle, busy; int n; } z[64]; // n: of an MMIO copy, its original's, so that both take the same power
 static int nz=0;
static double rd(const char*p){FILE*f=fopen(p,"r");double v=0;if(f){if(fscanf(f,"%lf",&v)!=1)v=0;fclose(f);}return v;}
static int visit(const char*p,const struct stat*s,int t,struct FTW*w){
  const char*b=strrchr(p,'/'); if(t!=FTW_F||!b||strcmp(b,"/energy_uj"))return 0;
  struct zone*q=&z[nz]; snprintf(q->path,512,"%s",p); char d[512]; snprintf(d,512,"%.*s",(int)(b-p),p);
  char f[600]; snprintf(f,600,"%s/name",d); FILE*n=fopen(f,"r"); if(n){if(!fgets(q->name,64,n))q->name[0]=0;fclose(n);} q->name[strcspn(q->name,"\n")]=0;
  snprintf(f,600,"%s/max_energy_range_uj",d); q->range=rd(f);
  if(!strncmp(q->name,"package",7)){q->idle=12;q->busy=48;} else if(!strcmp(q->name,"core")){q->idle=4;q->busy=42;}
  else if(!strcmp(q->name,"uncore")){q->idle=.5;q->busy=.5;} else if(!strcmp(q->name,"dram")){q->idle=2;q->busy=3;} else {q->idle=25;q->busy=60;}
  q->n=nz; q->fd=open(p,O_WRONLY); if(q->fd<0){perror(p);exit(1);} nz++; return 0; }
static void stat_cpu(double*busy,double*tot){FILE*f=fopen("/proc/stat","r");double v[10]={0};if(fscanf(f,"cpu %lf %lf %lf %lf %lf %lf %lf %lf",v,v+1,v+2,v+3,v+4,v+5,v+6,v+7)<1)v[0]=0;fclose(f);
  *tot=0;for(int i=0;i<8;i++)*tot+=v[i];*busy=*tot-v[3]-v[4];}
int main(int c,char**a){int mirror=0,hz=500;double near=0,fixed=0,rest=0;
  for(int i=2;i<c;i++){sscanf(a[i],"mirror=%d",&mirror);sscanf(a[i],"hz=%d",&hz);sscanf(a[i],"near=%lf",&near);sscanf(a[i],"fixed=%lf",&fixed);sscanf(a[i],"rest=%lf",&rest);}
  signal(SIGUSR1,onr); signal(SIGUSR2,onf); signal(SIGALRM,onw); nftw(a[1],visit,16,FTW_PHYS);
  for(int i=0;i<nz;i++)if(strstr(z[i].path,"mmio"))for(int j=0;j<nz;j++)if(!strstr(z[j].path,"mmio")&&!strcmp(z[i].name,z[j].name))z[i].n=z[j].n;
  for(int i=0;i<nz;i++){ double r=z[i].range>0?z[i].range:262143328850.; z[i].e = near>0 ? r-near*30e6 : fmod(31415926535.0*(i+1)*1.37+ (strstr(z[i].path,"mmio")?7:0),r);
     fprintf(stderr,"zone %s %s start %.0f range %.0f\n",z[i].path,z[i].name,z[i].e,z[i].range);} 
  double b0,t0,b1,t1,share=0.1; stat_cpu(&b0,&t0); struct timespec last,now; clock_gettime(CLOCK_MONOTONIC,&last); double since=0; int said=0;
  for(;;){ struct timespec w={0,1000000000L/hz}; nanosleep(&w,0); clock_gettime(CLOCK_MONOTONIC,&now);
    double dt=(now.tv_sec-last.tv_sec)+(now.tv_nsec-last.tv_nsec)*1e-9; last=now; since+=dt;
    if(since>0.05){stat_cpu(&b1,&t1); if(t1>t0)share=fmin(1,fmax(0,(b1-b0)/(t1-t0))); b0=b1;t0=t1;since=0;}
    if(frz)continue; if(rst){rst=0;for(int i=0;i<nz;i++)z[i].e=0;}
    double pk=-1;
    for(int i=0;i<nz;i++){ double p=(rest>0&&!wrk?rest:fixed>0?fixed:z[i].idle+z[i].busy*share)*(1+0.07*z[i].n*(mirror?0:1)); z[i].e+=p*dt*1e6;
      double r=z[i].range>0?z[i].range:262143328850.; if(z[i].e>=r)z[i].e-=r;
      if(mirror&&!strncmp(z[i].name,"package",7)){ if(pk<0)pk=z[i].e; else z[i].e=pk; }
      char s[32]; int n=snprintf(s,32,"%-15.0f\n",floor(z[i].e)); if(pwrite(z[i].fd,s,n,0)<0)return 1; }
    if(!said){said=1;fprintf(stderr,"ready\n");} }
}
